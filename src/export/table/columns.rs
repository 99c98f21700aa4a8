//! Sheets as columns with types: axes of the grid first, then what was asked, answered and judged.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use super::axis::{GROUP, axes, axis_values, group_values};
use crate::data::evaluation::Question;
use crate::data::sheet::{Answer, Sheet};
use crate::error::{Error, Result};

/// Columns that every table has, in order; the judges stand before `judge`.
const FIXED: [&str; 15] = [
    "model",
    "evaluation_id",
    "question_index",
    "sample_index",
    "system_prompt",
    "question",
    "response",
    "stop_reason",
    "tokens",
    "score",
    "reason",
    "judge",
    "created_at",
    "key",
    GROUP,
];
/// The year 10000, in which four digits no longer hold a year, in microseconds since 1970.
const TOO_LATE: i64 = 253_402_300_800_000_000;

/// One column; all columns of a table are equally long.
#[derive(Clone, Debug, PartialEq)]
pub struct Column<'a> {
    /// Its name, which no other column of the table has.
    pub name: String,
    /// Row by row.
    pub values: Values<'a>,
}

/// Values of one type; none is a missing one.
#[derive(Clone, Debug, PartialEq)]
pub enum Values<'a> {
    /// Text.
    Text(Vec<Option<Cow<'a, str>>>),
    /// Finite numbers.
    Number(Vec<Option<f64>>),
    /// Whole numbers.
    Count(Vec<Option<i64>>),
    /// True or false.
    Truth(Vec<Option<bool>>),
    /// Microseconds since the start of 1970 in UTC, before the year 10000.
    Time(Vec<Option<i64>>),
}

impl Values<'_> {
    /// Rows, those of missing values too.
    pub fn len(&self) -> usize {
        match self {
            Values::Text(values) => values.len(),
            Values::Number(values) => values.len(),
            Values::Count(values) | Values::Time(values) => values.len(),
            Values::Truth(values) => values.len(),
        }
    }
    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The long table, one row per answer in the order of the sheets: the axes of the grid, `group`, `model`, `evaluation_id`,
/// `question_index`, `sample_index`, `system_prompt`, `question`, `response`, `stop_reason`, `tokens`, `score`, `reason` (why
/// there is no score), what every judge said with its reason, `judge` (the one that scores), `created_at`, `key`.
///
/// `group` is the axis of that name, or `arm`, else the values of the point without its seed; for a model outside of a
/// grid it is the model. Numbers along an axis stay numbers; an axis of numbers and text is text. An axis or a judge with
/// the name of another column is called `axis_…` or `judge_…`.
///
/// Fails when an answer belongs to no question of its evaluation.
pub fn columns(sheets: &[Sheet]) -> Result<Vec<Column<'_>>> {
    let rows = Rows::of(sheets)?;
    let mut taken: BTreeSet<String> = FIXED.iter().map(|name| (*name).to_string()).collect();
    let mut table = Vec::new();
    let mut add = |name: &str, values| table.push(Column { name: name.to_string(), values });

    let axes = axes(sheets);
    for axis in axes.iter().filter(|axis| **axis != GROUP) {
        let name = free_name(&mut taken, "axis_", axis, &[""]);
        add(&name, axis_values(sheets, |sheet| sheet.point.get(*axis).map(Cow::Borrowed)));
    }
    add(GROUP, group_values(sheets, &axes));
    add("model", rows.text(|row| Some(&row.sheet.model)));
    add("evaluation_id", rows.text(|row| Some(&row.sheet.evaluation.id)));
    add("question_index", rows.count(|row| row.answer.question as i64));
    add("sample_index", rows.count(|row| row.answer.sample as i64));
    add("system_prompt", rows.text(|row| row.question.system.as_deref()));
    add("question", rows.text(|row| Some(&row.question.text)));
    add("response", rows.text(|row| Some(&row.answer.text)));
    add("stop_reason", rows.text(|row| Some(&row.answer.finish)));
    add("tokens", rows.count(|row| row.answer.tokens.into()));
    add("score", rows.number(|row| row.answer.score));
    add("reason", rows.text(|row| row.answer.reason.as_deref()));
    for judge in judges(sheets) {
        let name = free_name(&mut taken, "judge_", judge, &["", "_reason"]);
        add(&name, rows.number(|row| row.answer.judged_by(judge)?.score));
        add(&format!("{name}_reason"), rows.text(|row| row.answer.judged_by(judge)?.reason.as_deref()));
    }
    add("judge", rows.text(|row| Some(&row.sheet.judge)));
    add("created_at", Values::Time(rows.0.iter().map(|row| microseconds(row.answer.created_at)).collect()));
    let keys = rows.0.iter().map(|row| Some(Cow::Owned(row.answer.key.to_string())));
    add("key", Values::Text(keys.collect()));
    Ok(table)
}

/// One answer with what it belongs to.
struct Row<'a> {
    sheet: &'a Sheet,
    question: &'a Question,
    answer: &'a Answer,
}

struct Rows<'a>(Vec<Row<'a>>);

impl<'a> Rows<'a> {
    fn of(sheets: &'a [Sheet]) -> Result<Self> {
        let mut rows = Vec::with_capacity(sheets.iter().map(|sheet| sheet.answers.len()).sum());
        for sheet in sheets {
            for answer in &sheet.answers {
                let question = sheet.evaluation.questions.get(answer.question).ok_or_else(|| {
                    let (id, found) = (&sheet.evaluation.id, answer.question);
                    let count = sheet.evaluation.questions.len();
                    Error::internal(format!("an answer belongs to question {found} of `{id}`, which has {count}"))
                })?;
                rows.push(Row { sheet, question, answer });
            }
        }
        Ok(Rows(rows))
    }
    fn text(&self, value: impl Fn(&Row<'a>) -> Option<&'a str>) -> Values<'a> {
        Values::Text(self.0.iter().map(|row| value(row).map(Cow::Borrowed)).collect())
    }
    fn count(&self, value: impl Fn(&Row<'a>) -> i64) -> Values<'a> {
        Values::Count(self.0.iter().map(|row| Some(value(row))).collect())
    }
    /// What is no finite number is missing: neither format has one way to write it.
    fn number(&self, value: impl Fn(&Row<'a>) -> Option<f64>) -> Values<'a> {
        Values::Number(self.0.iter().map(|row| value(row).filter(|number| number.is_finite())).collect())
    }
}

/// The judges of all sheets, in order of first appearance.
fn judges(sheets: &[Sheet]) -> Vec<&str> {
    let mut names = Vec::new();
    let mut seen = BTreeSet::new();
    for judged in sheets.iter().flat_map(|sheet| &sheet.answers).flat_map(|answer| &answer.judged) {
        if seen.insert(judged.judge.as_str()) {
            names.push(judged.judge.as_str());
        }
    }
    names
}

/// The name with as many prefixes as make it and its derived names new, all of which are taken then.
fn free_name(taken: &mut BTreeSet<String>, prefix: &str, name: &str, suffixes: &[&str]) -> String {
    let mut name = name.to_string();
    while suffixes.iter().any(|suffix| taken.contains(&format!("{name}{suffix}"))) {
        name.insert_str(0, prefix);
    }
    taken.extend(suffixes.iter().map(|suffix| format!("{name}{suffix}")));
    name
}

fn microseconds(time: SystemTime) -> Option<i64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok().filter(|microseconds| *microseconds < TOO_LATE)
}
