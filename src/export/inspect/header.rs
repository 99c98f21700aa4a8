//! The parts of an Inspect log around its samples: what was evaluated, how, with what result and at what cost.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::document::{Node, Object};
use super::facts::Usage;
use super::log::{Log, axes, created, group, task_id};
use super::name::{millisecond, second};
use super::sample::Sample;
use crate::data::digest::Digest;
use crate::data::evaluation::{AskedJudge, Judge, Reading};
use crate::data::statistics::Estimate;
use crate::error::{Error, Result};

/// Version of the format.
pub(super) const VERSION: usize = 2;
/// How the samples of a question become one.
const REDUCER: &str = "mean";
/// Characters of a tag at most.
const LONGEST_TAG: usize = 60;

/// The log without samples and reductions, its fields in the order that Inspect's header reader needs.
pub(super) fn header(log: &Log, samples: &[Sample]) -> Result<Object> {
    // Fewer answers than the evaluation asks for: somebody stopped.
    let status = if samples.len() == log.asked() { "success" } else { "cancelled" };
    Ok(Object::new()
        .set("version", VERSION)
        .set("status", status)
        .set("eval", spec(log)?)
        .set("plan", plan(log))
        .set("results", results(log, samples))
        .set("stats", stats(log))
        .set("invalidated", false)
        .set("tags", json!(tags(log)))
        .set("metadata", metadata(log)?))
}

/// What a log starts with while it is being written.
pub(super) fn start(log: &Log) -> Result<Object> {
    Ok(Object::new().set("version", VERSION).set("eval", spec(log)?).set("plan", plan(log)))
}

/// Mean of every question, score by score.
pub(super) fn reductions(log: &Log, samples: &[Sample]) -> Vec<Node> {
    let of_score = |name: &str| {
        let mut values: Vec<Vec<f64>> = vec![Vec::new(); log.question_ids.len()];
        for sample in samples {
            values[sample.question()].extend(sample.score(name));
        }
        let questions = values.iter().zip(&log.question_ids);
        let questions = questions.map(|(values, id)| {
            Object::new().set("value", Node::score(mean(values))).set("sample_id", id.as_str()).into()
        });
        let questions: Vec<Node> = questions.collect();
        Object::new().set("scorer", name).set("reducer", REDUCER).set("samples", questions).into()
    };
    names(log).map(of_score).collect()
}

/// The score first, for viewers show the first one.
fn names<'a>(log: &'a Log) -> impl Iterator<Item = &'a str> {
    std::iter::once(log.score_name.as_str()).chain(log.judges.iter().map(String::as_str))
}

fn spec(log: &Log) -> Result<Object> {
    let (sheet, facts) = (log.sheet, log.facts);
    let evaluation = &sheet.evaluation;
    let questions = Digest::of_json(&to_json(&evaluation.questions)?)?;
    let run = match &facts.run {
        Some(run) => run.clone(),
        None => Digest::of_json(&to_json(evaluation)?)?.to_string(),
    };
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_string());
    let dataset = Object::new()
        .set("name", evaluation.id.as_str())
        .set("samples", evaluation.questions.len())
        .set("sample_ids", json!(log.question_ids))
        .set("shuffled", false);
    let config = json!({ "epochs": log.epochs, "epochs_reducer": [REDUCER], "log_samples": true });
    let revision = facts.revision.as_ref().map(|revision| {
        let (origin, commit) = (&revision.origin, &revision.commit);
        json!({ "type": "git", "origin": origin, "commit": commit, "dirty": revision.dirty })
    });
    Ok(Object::new()
        .set("eval_id", sheet.call.to_string())
        .set("run_id", run)
        .set("created", second(created(sheet, facts)))
        // Readers take what stands before a slash for the package of a task.
        .set("task", evaluation.id.replace('/', "-"))
        .set("task_id", task_id(sheet))
        .set("task_version", questions.short())
        .set_some("task_file", filled(&facts.script))
        .set_some("task_description", filled(&facts.title))
        .set("task_args", &sheet.point)
        .set("solver", "generate")
        .set("tags", json!(tags(log)))
        .set("dataset", dataset)
        .set("model", sheet.model.as_str())
        .set("model_generate_config", generate_config(log))
        .set("model_roles", roles(log))
        .set("config", config)
        .set_some("revision", revision)
        .set("packages", json!({ "drylab": facts.version }))
        .set("metadata", metadata(log)?)
        .set("scorers", scorers(log)?))
}

fn plan(log: &Log) -> Object {
    let step = json!([{ "solver": "generate", "params": {} }]);
    Object::new().set("name", "plan").set("steps", step).set("config", generate_config(log))
}

fn generate_config(log: &Log) -> Object {
    let sampling = &log.sheet.evaluation.sampling;
    Object::new()
        .set("max_tokens", sampling.max_tokens)
        .set("top_p", sampling.top_p)
        .set("temperature", sampling.temperature)
        // Readers refuse larger ones; the evaluation's metadata holds it in any case.
        .set_some("seed", i64::try_from(sampling.seed).ok().map(|seed| json!(seed)))
}

fn asked_judges<'a>(log: &'a Log) -> impl Iterator<Item = (&'a Judge, &'a AskedJudge)> {
    log.sheet.evaluation.judges.iter().filter_map(|judge| match judge {
        Judge::Asked(asked) => Some((judge, asked)),
        _ => None,
    })
}

/// The fact of a judge, under its own name or under one of those in tables.
fn fact_of<'a, T>(facts: &'a BTreeMap<String, T>, judge: &Judge, asked: &AskedJudge) -> Option<&'a T> {
    facts.get(&asked.name).or_else(|| judge.names().iter().find_map(|name| facts.get(name)))
}

/// What a judge's model is called; its identity names models of providers.
fn judge_model(log: &Log, judge: &Judge, asked: &AskedJudge) -> Option<String> {
    let named = fact_of(&log.facts.judge_models, judge, asked).map(String::as_str);
    named.or_else(|| asked.model["model"].as_str()).map(str::to_string)
}

fn roles(log: &Log) -> Object {
    asked_judges(log).fold(Object::new(), |roles, (judge, asked)| {
        let config = match asked.reading {
            Reading::Logprobs => json!({ "temperature": 0, "max_tokens": 1, "logprobs": true }),
            Reading::Sampled { samples, temperature, max_tokens } => {
                json!({ "temperature": temperature, "max_tokens": max_tokens, "num_choices": samples })
            }
        };
        let role = judge_model(log, judge, asked)
            .map(|model| Object::new().set("model", model).set("config", config).set("args", json!({})));
        roles.set_some(asked.name.as_str(), role)
    })
}

fn scorers(log: &Log) -> Result<Vec<Node>> {
    let evaluation = &log.sheet.evaluation;
    let mut score = json!({ "of": log.sheet.judge });
    if let (Some(options), Value::Object(fields)) = (score.as_object_mut(), to_json(&evaluation.score)?) {
        options.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
    }
    let mut options = BTreeMap::new();
    for judge in &evaluation.judges {
        for name in judge.names() {
            options.insert(name, to_json(judge)?);
        }
    }
    options.insert(log.score_name.clone(), score);
    let scorer = |name: &str| {
        let options = options.get(name).cloned().unwrap_or_else(|| json!({}));
        Object::new().set("name", name).set("options", options).set("metrics", json!([{ "name": REDUCER }])).into()
    };
    Ok(names(log).map(scorer).collect())
}

fn results(log: &Log, samples: &[Sample]) -> Object {
    let scores: Vec<Node> = names(log).map(|name| result(log, samples, name).into()).collect();
    Object::new().set("total_samples", log.asked()).set("completed_samples", samples.len()).set("scores", scores)
}

fn result(log: &Log, samples: &[Sample], name: &str) -> Object {
    let is_score = name == log.score_name;
    let values: Vec<f64> = samples.iter().filter_map(|sample| sample.score(name)).collect();
    let metrics = match log.facts.statistics.as_ref().filter(|_| is_score) {
        Some(estimate) => estimated(estimate),
        None => {
            let counts = json!({
                "n_questions": log.question_ids.len(),
                "n_samples": samples.len(),
                "n_missing": samples.len() - values.len(),
            });
            // A mean of nothing is no metric: NaN stands in scores alone.
            mean(&values).map_or(Object::new(), |mean| Object::new().set("mean", metric("mean", mean, &counts)))
        }
    };
    let missing = missing(log, (!is_score).then_some(name));
    Object::new()
        .set("name", name)
        .set("scorer", name)
        .set("scored_samples", values.len())
        .set("unscored_samples", samples.len() - values.len())
        .set("params", json!({}))
        .set("metrics", metrics)
        .set("metadata", json!({ "missing": missing }))
}

/// Answers without a score by our own reason: of a judge, or of the score.
pub(super) fn missing(log: &Log, judge: Option<&str>) -> BTreeMap<String, usize> {
    let mut missing = BTreeMap::new();
    for answer in &log.sheet.answers {
        let (score, reason) = match judge.map(|judge| answer.judged_by(judge)) {
            None => (answer.score, answer.reason.as_deref()),
            Some(Some(judged)) => (judged.score, judged.reason.as_deref()),
            Some(None) => (None, Some("not_judged")),
        };
        if !score.is_some_and(f64::is_finite) {
            *missing.entry(reason.unwrap_or("unknown").to_string()).or_default() += 1;
        }
    }
    missing
}

fn estimated(estimate: &Estimate) -> Object {
    let params = json!({
        "method": estimate.method,
        "confidence": estimate.confidence,
        "n_seeds": estimate.seeds,
        "n_questions": estimate.questions,
        "n_samples": estimate.samples,
        "n_missing": estimate.missing.values().sum::<usize>(),
    });
    let ends = [("mean", estimate.mean), ("low", estimate.low), ("high", estimate.high)];
    let ends = ends.into_iter().filter(|(_, value)| value.is_finite());
    ends.fold(Object::new(), |metrics, (name, value)| metrics.set(name, metric(name, value, &params)))
}

fn metric(name: &str, value: f64, params: &Value) -> Object {
    Object::new().set("name", name).set("value", value).set("params", params.clone())
}

fn stats(log: &Log) -> Object {
    let answers = &log.sheet.answers;
    let (first, last) = (answers.iter().map(|a| a.created_at).min(), answers.iter().map(|a| a.created_at).max());
    let counted = || Usage { output_tokens: answers.iter().map(|a| u64::from(a.tokens)).sum(), ..Usage::default() };
    let mut by_model = BTreeMap::from([(log.sheet.model.clone(), log.facts.usage.unwrap_or_else(counted))]);
    let mut by_role = Object::new();
    for (judge, asked) in asked_judges(log) {
        let Some(usage) = fact_of(&log.facts.judge_usage, judge, asked) else { continue };
        by_role = by_role.set(asked.name.as_str(), usage_node(usage));
        if let Some(model) = judge_model(log, judge, asked) {
            let sum = by_model.entry(model).or_default();
            *sum = sum.plus(*usage);
        }
    }
    let by_model =
        by_model.iter().fold(Object::new(), |object, (model, usage)| object.set(model.as_str(), usage_node(usage)));
    Object::new()
        .set_some("started_at", first.map(millisecond))
        .set_some("completed_at", last.map(millisecond))
        .set("model_usage", by_model)
        .set("role_usage", by_role)
}

fn usage_node(usage: &Usage) -> Object {
    let total = usage.input_tokens + usage.cached_input_tokens + usage.output_tokens;
    Object::new()
        .set("input_tokens", usage.input_tokens)
        .set("output_tokens", usage.output_tokens)
        .set("total_tokens", total)
        .set("input_tokens_cache_read", usage.cached_input_tokens)
        .set_some("total_cost", usage.dollars.filter(|dollars| dollars.is_finite()))
}

/// Short facts to filter by. Sorted, because readers sort them.
fn tags(log: &Log) -> Vec<String> {
    let job = log.sheet.provenance["job"].as_str().map(|job| format!("job={job}"));
    let mut tags: Vec<String> = axes(log.sheet).chain(job).filter(|tag| tag.chars().count() <= LONGEST_TAG).collect();
    tags.sort();
    tags
}

/// Where the model comes from and where it stands in the experiment.
fn metadata(log: &Log) -> Result<Value> {
    let (sheet, facts) = (log.sheet, log.facts);
    let mut metadata: Map<String, Value> = facts.metadata.clone().into_iter().collect();
    let mut datasets = Vec::new();
    find_datasets(&sheet.provenance, &mut datasets);
    let is_mix = |data: &&&Value| !data["from"]["mix"].is_null();
    let mix = datasets.iter().find(is_mix).map(|data| data["digest"].clone());
    let shown =
        datasets.iter().map(|data| json!({ "name": data["name"], "digest": data["digest"], "rows": data["rows"] }));
    let mut add = |name: &str, value: Value| {
        if !value.is_null() {
            metadata.insert(name.to_string(), value);
        }
    };
    add("experiment", json!(facts.title));
    add("group", json!(group(sheet, facts)));
    add("point", to_json(&sheet.point)?);
    add("seed", sheet.point.get("seed").cloned().unwrap_or_default());
    add("evaluation", json!(sheet.evaluation.id));
    add("judge", json!(sheet.judge));
    add("sampling", to_json(&sheet.evaluation.sampling)?);
    add("datasets", shown.collect());
    add("mix", mix.unwrap_or_default());
    add("job", sheet.provenance["job"].clone());
    add("provenance", sheet.provenance.clone());
    Ok(Value::Object(metadata))
}

/// Every dataset in a description of origin, each once, the whole before its parts.
fn find_datasets<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            let is_dataset = value["name"].is_string() && value["digest"].is_string();
            if is_dataset && found.iter().all(|known| known["digest"] != value["digest"]) {
                found.push(value);
            }
            fields.values().for_each(|field| find_datasets(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| find_datasets(item, found)),
        _ => {}
    }
}

/// Arithmetic mean; none of nothing.
pub(super) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn to_json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::internal(error.to_string()))
}
