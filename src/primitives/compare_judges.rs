//! `compare_judges` and `near_threshold`: whether judges can be trusted, and which answers to read oneself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::export_answers::sheets_of;
use super::summarize::Measured;
use crate::data::sheet::{Answer, Sheet};
use crate::data::statistics::{Agreement, agreement};
use crate::error::{Error, Result, nearest};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Where judgements are parted into two sides.
    threshold: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options { threshold: 50.0 }
    }
}

/// The declaration of `compare_judges`.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("compare_judges", run)
        .about(
            "How far two judges agree on the same answers: `both` (answers that both judged), `same_side` of the \
             threshold, Cohen's `kappa` of the sides, Krippendorff's `alpha` of the scores, `correlation`, `bias` (second \
             minus first), `near_threshold` (share of the first judge's words within 5 points of it). Waits for the \
             scores; () when only planned.",
        )
        .input("results", "What `evaluate` or `sweep` returned.")
        .input("first", "Name of a judge.")
        .input("second", "Name of another one.")
        .example("compare_judges(results, \"alignment\", \"grammar\", #{ threshold: 50.0 })")
}

fn run(
    lab: &Lab,
    _: &Call,
    (results, first, second): (Measured, String, String),
    options: Options,
) -> Result<Option<Plain<Agreement>>> {
    if lab.planning() {
        return Ok(None);
    }
    let sheets = sheets_of(&results)?;
    for judge in [&first, &second] {
        check_judge(&sheets, judge)?;
    }
    let said = |answer: &Answer, judge: &str| answer.judged_by(judge).and_then(|judged| judged.score);
    let answers = sheets.iter().flat_map(|sheet| &sheet.answers);
    let pairs: Vec<_> = answers.map(|answer| (said(answer, &first), said(answer, &second))).collect();
    Ok(Some(Plain(agreement(&pairs, options.threshold)?)))
}

fn check_judge(sheets: &[Sheet], judge: &str) -> Result<()> {
    let names: Vec<String> =
        sheets.iter().flat_map(|sheet| &sheet.evaluation.judges).flat_map(|judge| judge.names()).collect();
    if names.iter().any(|name| name == judge) {
        return Ok(());
    }
    let error = Error::input(format!("no evaluation has a judge `{judge}`"));
    Err(match nearest(judge, names.iter().map(String::as_str)) {
        Some(near) => error.with_help(format!("did you mean `{near}`?")),
        None => error.with_help(format!("choose one of `{}`", names.join("`, `"))),
    })
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct NearOptions {
    /// Name of the judge; the one of the score when left out.
    judge: Option<String>,
    /// The threshold.
    threshold: f64,
    /// How far from it a judgement may lie.
    within: f64,
    /// Answers at most, the nearest first.
    most: usize,
}

impl Default for NearOptions {
    fn default() -> Self {
        NearOptions { judge: None, threshold: 50.0, within: 5.0, most: 20 }
    }
}

/// An answer to read.
#[derive(Serialize)]
struct Example {
    model: String,
    evaluation: String,
    question: String,
    answer: String,
    judge: String,
    judgement: f64,
}

/// The declaration of `near_threshold`.
pub fn near_primitive() -> Primitive<Lab> {
    Primitive::new("near_threshold", run_near)
        .about(
            "Answers whose judgement lies near the threshold, the nearest first, to read oneself: maps of `model`, \
             `evaluation`, `question`, `answer`, `judge` and `judgement`. Waits for the scores; empty when only planned.",
        )
        .input("results", "What `evaluate` or `sweep` returned.")
        .example("write_json(\"near.json\", near_threshold(results, #{ threshold: 50.0, within: 5.0 }))")
}

fn run_near(lab: &Lab, _: &Call, (results,): (Measured,), options: NearOptions) -> Result<Plain<Vec<Example>>> {
    if lab.planning() {
        return Ok(Plain(Vec::new()));
    }
    let sheets = sheets_of(&results)?;
    if let Some(judge) = &options.judge {
        check_judge(&sheets, judge)?;
    }
    let mut near = Vec::new();
    for sheet in &sheets {
        let judge = options.judge.as_ref().unwrap_or(&sheet.judge);
        for answer in &sheet.answers {
            let Some(judgement) = answer.judged_by(judge).and_then(|judged| judged.score) else { continue };
            if (judgement - options.threshold).abs() <= options.within {
                near.push(Example {
                    model: sheet.model.clone(),
                    evaluation: sheet.evaluation.id.clone(),
                    question: sheet.evaluation.questions[answer.question].text.clone(),
                    answer: answer.text.clone(),
                    judge: judge.clone(),
                    judgement,
                });
            }
        }
    }
    let distance = |example: &Example| (example.judgement - options.threshold).abs();
    near.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    near.truncate(options.most);
    Ok(Plain(near))
}
