//! `power` and `seeds_needed`: what a comparison can show, before it is paid for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::summarize::View;
use super::sweep::Cells;
use crate::data::statistics::{
    Arms, CONFIDENCE, Claim, Components, POWER, PlanOptions, components, components_of_difference, plans, seeds_needed,
};
use crate::data::summary::{Condition, Intervals, SummaryOptions, label, same};
use crate::error::{Error, Result, bail, ensure};
use crate::lab::{Event, Lab};
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Axis of the grid whose values are the groups; the only one beside `seed` when left out.
    x: Option<String>,
    /// The groups of the pilot: two that will be compared with equal seeds, or one that stands for both.
    groups: Vec<Value>,
    /// Which evaluation; the first when left out.
    evaluation: Option<String>,
    /// Numbers of seeds to consider.
    seeds: Vec<usize>,
    /// Numbers of questions to consider; those of the pilot when left out.
    questions: Vec<usize>,
    /// Numbers of answers per question to consider.
    samples: Vec<usize>,
    /// Whether the claim is about other questions too, and not only about other seeds.
    other_questions: bool,
    /// Probability with which a difference of the told size is found.
    power: f64,
    /// Price of a fine-tune, for the last column.
    dollars_per_finetune: f64,
    /// Price of an answer with its judgements, for the last column.
    dollars_per_answer: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            x: None,
            groups: Vec::new(),
            evaluation: None,
            seeds: vec![3, 5, 10],
            questions: Vec::new(),
            samples: vec![10, 50, 100],
            other_questions: false,
            power: POWER,
            dollars_per_finetune: 0.0,
            dollars_per_answer: 0.0,
        }
    }
}

/// One way to spend.
#[derive(Serialize)]
struct Row {
    seeds: usize,
    questions: usize,
    samples: usize,
    detectable: f64,
    finetunes: usize,
    answers: usize,
    dollars: f64,
}

/// The declaration of `power`.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("power", run)
        .about(
            "What a comparison of two groups could show, from a pilot: variance between seeds, questions and answers, and \
             for every number of each the smallest difference that would be found, with fine-tunes, answers and price. \
             More answers per question are cheap and soon add nothing. Prints a table and returns its rows; () when only \
             planned.",
        )
        .input("pilot", "Cells with at least two seeds.")
        .example("power(cells, #{ groups: [\"misaligned\", \"general\"], seeds: [3, 5, 10], dollars_per_finetune: 12.0 })")
}

fn run(lab: &Lab, _: &Call, (pilot,): (Cells,), options: Options) -> Result<Option<Plain<Vec<Row>>>> {
    let view = View::of(&pilot, options.x.as_deref(), None, None)?;
    ensure!(
        (1..=2).contains(&options.groups.len()), "`groups` names {} groups", options.groups.len();
        help: "name the two that will be compared, or one that stands for both: `groups: [\"misaligned\"]`"
    );
    let evaluation = options.evaluation.clone().unwrap_or_else(|| view.evaluations[0].id.clone());
    for group in &options.groups {
        if !view.axes.x_values.iter().any(|value| same(value, group)) {
            let known: Vec<String> = view.axes.x_values.iter().map(|value| format!("`{}`", label(value))).collect();
            bail!("`groups` names `{}`, which is no value of `{}`", label(group), view.axes.x; help: "choose from {}", known.join(", "));
        }
    }
    ensure!(
        options.groups.len() == 1 || pilot.seeds_are_pairs(),
        "the models of a table are no pairs, so `groups` cannot name two of them";
        help: "name the one that stands for both: `groups: [\"{}\"]`", label(&options.groups[0])
    );
    if lab.planning() {
        return Ok(None);
    }
    let summary = view.summarize(&pilot, None, &SummaryOptions::shown_only(Intervals::Standard))?;
    let find = |group: &Value| -> Result<&Condition> {
        summary.condition(&evaluation, group, None).ok_or_else(|| {
            Error::input(format!("the cells have no evaluation `{evaluation}`"))
                .with_help(format!("choose one of `{}`", summary.evaluations.join("`, `")))
        })
    };
    let first = find(&options.groups[0])?;
    let (found, arms): (Components, Arms) = match options.groups.get(1) {
        Some(second) => (components_of_difference(first.observations(), find(second)?.observations())?, Arms::Paired),
        None => (components(first.observations())?, Arms::Independent),
    };
    let questions = if options.questions.is_empty() { vec![first.questions()] } else { options.questions };
    let claim = if options.other_questions { Claim::OtherQuestions } else { Claim::TheseQuestions };
    let (seeds, samples, power) = (options.seeds, options.samples, options.power);
    let planned =
        plans(&found, &PlanOptions { seeds, questions, samples, arms, claim, confidence: CONFIDENCE, power })?;
    let rows: Vec<Row> = planned
        .into_iter()
        .map(|plan| {
            let finetunes = 2 * plan.seeds;
            let dollars =
                finetunes as f64 * options.dollars_per_finetune + plan.answers as f64 * options.dollars_per_answer;
            let (seeds, questions, samples) = (plan.seeds, plan.questions, plan.samples);
            Row { seeds, questions, samples, detectable: plan.detectable, finetunes, answers: plan.answers, dollars }
        })
        .collect();
    lab.send(Event::Print { text: table(&evaluation, &found, arms, &rows) });
    Ok(Some(Plain(rows)))
}

fn table(evaluation: &str, found: &Components, arms: Arms, rows: &[Row]) -> String {
    let of = match arms {
        Arms::Paired => "differences of two groups with equal seeds",
        Arms::Independent => "one group",
    };
    let deviation = |variance: f64| variance.sqrt();
    let mut text = format!(
        "{evaluation}: standard deviations of {of}: seeds {:.1}, questions {:.1}, seeds x questions {:.1}, answers {:.1}\n",
        deviation(found.seed),
        deviation(found.question),
        deviation(found.seed_question),
        deviation(found.sample)
    );
    text += "seeds  questions  samples  detectable  fine-tunes  answers   dollars\n";
    for row in rows {
        text += &format!(
            "{:>5}  {:>9}  {:>7}  {:>10.1}  {:>10}  {:>7}  {:>8.2}\n",
            row.seeds, row.questions, row.samples, row.detectable, row.finetunes, row.answers, row.dollars
        );
    }
    text.trim_end().to_string()
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SeedOptions {
    /// Whether the two groups share their seeds; `deviation` is then that of the differences.
    paired: bool,
    /// Probability with which the difference is found.
    power: f64,
}

impl Default for SeedOptions {
    fn default() -> Self {
        SeedOptions { paired: false, power: POWER }
    }
}

/// The declaration of `seeds_needed`.
pub fn seeds_primitive() -> Primitive<Lab> {
    Primitive::new(
        "seeds_needed",
        |_: &Lab, _: &Call, (difference, deviation): (f64, f64), options: SeedOptions| {
            ensure!(deviation > 0.0, "the standard deviation of seeds is {deviation}"; help: "write a number above 0");
            let arms = if options.paired { Arms::Paired } else { Arms::Independent };
            Ok(seeds_needed((difference / deviation).abs(), arms, CONFIDENCE, options.power)? as i64)
        },
    )
    .about("Seeds that each of two groups needs for a t test at 5 % to find a difference, by the noncentral t distribution.")
    .input("difference", "The difference to find, in points.")
    .input("deviation", "The standard deviation between seeds, in points.")
    .example("seeds_needed(10.0, 4.0, #{ paired: true })")
}
