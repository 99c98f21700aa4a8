//! `import_scores`: judge scores that were made elsewhere, as the cells of a sweep.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::results::{Part, Results};
use super::sweep::{Cells, Point};
use crate::data::digest::Digest;
use crate::data::evaluation::{Evaluation, Question, QuestionScores, Sampling, Score, Scores};
use crate::data::score_table::{Columns, Reading, ScoredModel, read_scores};
use crate::data::summary::SEED;
use crate::engine::deferred::Deferred;
use crate::error::{Error, Result, ensure};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Column of the condition; becomes the axis `group`.
    group: String,
    /// Column of the model; the models of a group are its seeds.
    model: String,
    /// Column of the evaluation.
    evaluation: String,
    /// Column of the question.
    question: String,
    /// Column of the score.
    score: String,
    /// Column that says why a score is missing, where there is one.
    reason: String,
    /// Scores of the table at most: 100 or 1; they are shown as 0 to 100.
    most: f64,
    /// Makes the score 100 for table scores above this and 0 for the others.
    above: Option<f64>,
    /// Makes the score 100 for table scores below this and 0 for the others.
    below: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        let Columns { group, model, evaluation, question, score, reason } = Columns::default();
        Options { group, model, evaluation, question, score, reason, most: 100.0, above: None, below: None }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("import_scores", run)
        .about(
            "Reads a CSV of judge scores made elsewhere, one row per answer, as the cells of a sweep: `group` is an axis \
             and the models of a group are its seeds, in their order. `plot` and `report` take them like any other cells.",
        )
        .input("path", "The file, from the project folder.")
        .example("import_scores(\"specific_inoculation_scores.csv\", #{ above: 50.0 })")
}

fn run(lab: &Lab, _: &Call, (path,): (String,), options: Options) -> Result<Cells> {
    ensure!(options.most > 0.0, "`most` is {}", options.most; help: "write 100.0 or 1.0");
    ensure!(
        options.above.is_none() || options.below.is_none(), "`import_scores` has both `above` and `below`"; help: "leave one of them out"
    );
    let bytes = lab.files().map(&path)?;
    let columns = Columns {
        group: options.group.clone(),
        model: options.model.clone(),
        evaluation: options.evaluation.clone(),
        question: options.question.clone(),
        score: options.score.clone(),
        reason: options.reason.clone(),
    };
    let models = read_scores(&path, &bytes, &columns)?;
    let file = Digest::of(&bytes);
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for model in &models {
        let place = match groups.iter().position(|(name, _)| *name == model.group) {
            Some(place) => place,
            None => {
                groups.push((&model.group, Vec::new()));
                groups.len() - 1
            }
        };
        if !groups[place].1.contains(&model.model.as_str()) {
            groups[place].1.push(&model.model);
        }
    }
    let mut cells = Vec::new();
    for (group, names) in groups {
        for (seed, name) in names.into_iter().enumerate() {
            let of_model = models.iter().filter(|model| model.group == group && model.model == name);
            let parts = of_model.map(|model| part(file, model, &options)).collect::<Result<Vec<_>>>()?;
            let provenance = json!({ "key": format!("{file} {group} {name}"), "name": name, "read_from": path });
            let point = Point::from([("group".to_string(), json!(group)), (SEED.to_string(), json!(seed))]);
            cells.push((point, vec![Results::of_table(lab, name.to_string(), provenance, parts)]));
        }
    }
    Ok(Cells(Arc::new(cells)))
}

fn part(file: Digest, model: &ScoredModel, options: &Options) -> Result<Part> {
    let score = Score { judge: None, above: options.above, below: options.below, only_where: None };
    let (scale, most) = (100.0 / options.most, options.most);
    let read = |reading: &Reading| match reading {
        Ok(found) if (0.0..=most).contains(found) => Ok(Some(match (score.above, score.below) {
            (None, None) => found * scale,
            _ => score.of(*found),
        })),
        Ok(found) => Err(Error::input(format!("`{}` has the score {found}, beyond 0 to {most}", model.model))
            .with_help("say what the table's scores are at most: `most: 1.0`")),
        Err(_) => Ok(None),
    };
    let mut questions = Vec::with_capacity(model.questions.len());
    for (question, readings) in &model.questions {
        let mut missing = BTreeMap::<String, usize>::new();
        for reason in readings.iter().filter_map(|reading| reading.as_ref().err()) {
            *missing.entry(reason.clone()).or_default() += 1;
        }
        let scores = readings.iter().filter_map(|reading| read(reading).transpose()).collect::<Result<_>>()?;
        questions.push(QuestionScores { question: question.clone(), scores, missing });
    }
    let evaluation = Evaluation {
        id: model.evaluation.clone(),
        questions: model.questions.iter().map(|(question, _)| Question::of_text(question)).collect(),
        samples: model.questions.iter().map(|(_, readings)| readings.len()).max().unwrap_or(0),
        // What is not known of a table is the same for all of it.
        sampling: Sampling { temperature: 1.0, top_p: 1.0, max_tokens: 0, seed: 0 },
        judges: Vec::new(),
        score,
    };
    let judge = format!("column {}", options.score);
    let scores = Scores { judge, questions, agreement: BTreeMap::new(), cut: 0 };
    let value: Value = serde_json::to_value(scores).map_err(|error| Error::internal(error.to_string()))?;
    let identity =
        json!({ "file": file, "model": model.model, "evaluation": model.evaluation, "score": evaluation.score });
    Ok(Part {
        key: Digest::of_json(&identity)?,
        evaluation: Arc::new(evaluation),
        judge_models: Arc::new(Vec::new()),
        outcome: Deferred::ready(Ok(Arc::new(value))),
        seen: 0,
    })
}
