//! The axes of a grid: which one is x, which one tells series apart, and in which order their values come.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::data::digest::canonical;
use crate::error::{Error, Result, bail, ensure, nearest};

/// A point of a grid, by the names of its axes.
pub type Point = BTreeMap<String, Value>;

/// The axis that is averaged over.
pub const SEED: &str = "seed";

/// How a grid is looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Axes {
    /// The axis along which conditions are compared; empty for a grid of seeds alone.
    pub x: String,
    /// Whether every x is a number: a dose, of which trends can be spoken.
    pub numeric: bool,
    /// Values of x: numbers upwards, others as the grid has them.
    pub x_values: Vec<Value>,
    /// A second axis, each of whose values is a series.
    pub series: Option<String>,
    /// Values of the second axis, in the same order; empty without one.
    pub series_values: Vec<Value>,
}

impl Axes {
    /// Reads the grid from its points. Without `x` the grid's only axis beside `seed` is taken; one more axis becomes the
    /// series. An axis with one value is no axis.
    ///
    /// Fails when an axis is not in the grid, and when the grid has more axes than can be shown.
    pub fn of(points: &[Point], x: Option<&str>, series: Option<&str>) -> Result<Self> {
        let first = points.first().ok_or_else(|| Error::input("there are no cells to summarise"))?;
        let names: Vec<&str> = first.keys().map(String::as_str).filter(|name| *name != SEED).collect();
        let different = |name: &str| values(points, name).len() > 1;
        let series = series.filter(|name| *name != "evaluation");
        for wanted in x.iter().chain(&series) {
            check_name(wanted, &names)?;
        }
        ensure!(x.is_none() || x != series, "`x` and `series` are the same axis"; help: "leave `series` out");
        let x = match x {
            Some(x) => x,
            None => {
                let free: Vec<&str> = names.iter().copied().filter(|name| Some(*name) != series).collect();
                let varied: Vec<&str> = free.iter().copied().filter(|name| different(name)).collect();
                match (varied.as_slice(), free.as_slice()) {
                    ([one], _) | ([], [one, ..]) => one,
                    ([], []) => "",
                    (several, _) => {
                        bail!("the grid has the axes {}", quoted(several); help: "name the one to compare along: `x: \"{}\"`", several[0])
                    }
                }
            }
        };
        let others: Vec<&str> =
            names.iter().copied().filter(|name| *name != x && Some(*name) != series && different(name)).collect();
        let series = match (series, others.as_slice()) {
            (series, []) => series,
            (None, [one]) => Some(*one),
            (None, several) => {
                bail!("beside `{x}` the grid has the axes {}", quoted(several); help: "give all but one of them a single value, and run the script once for each")
            }
            (Some(series), several) => {
                bail!("beside `{x}` and `{series}` the grid has {}", quoted(several); help: "give it a single value, and run the script once for each")
            }
        };
        let (x_values, numeric) = ordered(values(points, x));
        Ok(Axes {
            x: x.to_string(),
            numeric,
            x_values,
            series_values: series.map(|name| ordered(values(points, name)).0).unwrap_or_default(),
            series: series.map(str::to_string),
        })
    }

    /// The point's value on the x axis.
    pub fn x_of<'a>(&self, point: &'a Point) -> &'a Value {
        point.get(&self.x).unwrap_or(&Value::Null)
    }
    /// The point's value on the second axis, if there is one.
    pub fn series_of<'a>(&self, point: &'a Point) -> Option<&'a Value> {
        self.series.as_ref().and_then(|name| point.get(name))
    }
    /// Whether a point lies at this x and, when one is named, in this series.
    pub fn holds(&self, point: &Point, x: &Value, series: Option<&Value>) -> bool {
        same(self.x_of(point), x) && self.in_series(point, series)
    }
    /// Whether a point lies in this series; without one every point does.
    pub fn in_series(&self, point: &Point, series: Option<&Value>) -> bool {
        series.is_none_or(|value| self.series_of(point).is_some_and(|found| same(found, value)))
    }
    /// The series; none, once, where the grid has no second axis.
    pub fn each_series(&self) -> Vec<Option<&Value>> {
        if self.series.is_some() { self.series_values.iter().map(Some).collect() } else { vec![None] }
    }
    /// What a condition is called: `ratio 0.1`, `arm none, rows 500`.
    pub fn name(&self, point: &Point) -> String {
        let parts = [Some(&self.x), self.series.as_ref()].into_iter().flatten();
        let names: Vec<String> = parts.filter_map(|axis| Some(format!("{axis} {}", label(point.get(axis)?)))).collect();
        if names.is_empty() { label(&Value::Null) } else { names.join(", ") }
    }
}

/// A value as people read it: text without quotes, numbers in their shortest form.
pub fn label(value: &Value) -> String {
    match value {
        Value::Null => "all seeds".to_string(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number.as_f64().map(|float| float.to_string()).unwrap_or_default(),
        other => other.to_string(),
    }
}

/// Whether two values of an axis are the same: 0 and 0.0 are.
pub fn same(a: &Value, b: &Value) -> bool {
    a == b || canonical(a).ok().is_some_and(|a| canonical(b).is_ok_and(|b| a == b))
}

fn check_name(name: &str, names: &[&str]) -> Result<()> {
    if names.contains(&name) {
        return Ok(());
    }
    let error = Error::input(match name {
        SEED => "`seed` is averaged over, so it is no axis to compare along".to_string(),
        _ => format!("the grid has no axis `{name}`"),
    });
    Err(match nearest(name, names.iter().copied()) {
        Some(near) => error.with_help(format!("did you mean `{near}`?")),
        None if names.is_empty() => error.with_help("leave it out: the grid has seeds only"),
        None => error.with_help(format!("choose one of {}", quoted(names))),
    })
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
}

/// Different values of an axis, in order of appearance.
fn values(points: &[Point], axis: &str) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for point in points {
        let value = point.get(axis).unwrap_or(&Value::Null);
        if !found.iter().any(|known| same(known, value)) {
            found.push(value.clone());
        }
    }
    found
}

/// Numbers upwards, and whether they all are.
fn ordered(mut values: Vec<Value>) -> (Vec<Value>, bool) {
    let numeric = values.iter().all(Value::is_number);
    if numeric {
        values.sort_by(|a, b| a.as_f64().unwrap_or(f64::NAN).total_cmp(&b.as_f64().unwrap_or(f64::NAN)));
    }
    (values, numeric)
}
