//! Values along the axes of a grid as columns, and which of them is the group of a model.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;

use super::columns::Values;
use crate::data::sheet::Sheet;
use crate::data::summary::{SEED, label};

/// The column that published plots tell conditions apart by.
pub(super) const GROUP: &str = "group";
/// Axes that are the group of a model, the first one that the grid has.
const GROUP_AXES: [&str; 2] = [GROUP, "arm"];

/// The axes that any of the sheets has, in the order of their names.
pub(super) fn axes(sheets: &[Sheet]) -> BTreeSet<&str> {
    sheets.iter().flat_map(|sheet| sheet.point.keys().map(String::as_str)).collect()
}

/// A value of each sheet in the rows of all its answers, in the type that all of them have: whole numbers, numbers, true
/// or false, else text.
pub(super) fn axis_values<'a>(sheets: &'a [Sheet], value: impl Fn(&'a Sheet) -> Option<Cow<'a, Value>>) -> Values<'a> {
    let values: Vec<_> = sheets.iter().map(|sheet| value(sheet).filter(|value| !value.is_null())).collect();
    let all = |holds: fn(&Value) -> bool| values.iter().flatten().all(|value| holds(value));
    if values.iter().all(Option::is_none) {
        Values::Text(spread(sheets, &values, |_| None))
    } else if all(Value::is_i64) {
        Values::Count(spread(sheets, &values, Value::as_i64))
    } else if all(|value| value.is_f64() || value.is_i64()) {
        Values::Number(spread(sheets, &values, Value::as_f64))
    } else if all(Value::is_boolean) {
        Values::Truth(spread(sheets, &values, Value::as_bool))
    } else {
        Values::Text(spread(sheets, &values, |value| Some(Cow::Owned(label(value)))))
    }
}

/// The group of every answer's model.
pub(super) fn group_values<'a>(sheets: &'a [Sheet], axes: &BTreeSet<&str>) -> Values<'a> {
    let axis = GROUP_AXES.into_iter().find(|name| axes.contains(name));
    axis_values(sheets, |sheet| Some(group(sheet, axis)))
}

/// One value for each answer.
fn spread<T: Clone>(
    sheets: &[Sheet],
    values: &[Option<Cow<'_, Value>>],
    read: impl Fn(&Value) -> Option<T>,
) -> Vec<Option<T>> {
    let each = sheets.iter().zip(values).map(|(sheet, value)| (value.as_deref().and_then(&read), sheet.answers.len()));
    each.flat_map(|(value, answers)| std::iter::repeat_n(value, answers)).collect()
}

fn group<'a>(sheet: &'a Sheet, axis: Option<&str>) -> Cow<'a, Value> {
    let text = |text: String| Cow::Owned(Value::String(text));
    if sheet.point.is_empty() {
        return text(sheet.model.clone());
    }
    let named = |value: &Value| if value.is_null() { "none".to_string() } else { label(value) };
    match axis {
        Some(axis) => match sheet.point.get(axis) {
            Some(Value::Null) => text("none".to_string()),
            Some(value) => Cow::Borrowed(value),
            None => text(sheet.model.clone()),
        },
        None => {
            let values: Vec<String> =
                sheet.point.iter().filter(|(name, _)| *name != SEED).map(|(_, value)| named(value)).collect();
            // A grid of nothing but seeds is one group, called as in figures.
            text(if values.is_empty() { label(&Value::Null) } else { values.join(", ") })
        }
    }
}
