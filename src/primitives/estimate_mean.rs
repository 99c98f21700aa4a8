//! `estimate_mean`: the mean of numbers that a script made itself, one per seed, with its interval.

use serde::Serialize;

use crate::data::statistics::{CONFIDENCE, t_interval};
use crate::error::{Result, ensure};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;

/// A mean of independent values.
#[derive(Serialize)]
struct Estimated {
    mean: f64,
    /// Absent for a single value, and for equal ones, which do not tell how far apart values can be.
    low: Option<f64>,
    high: Option<f64>,
    count: usize,
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("estimate_mean", run)
        .about(
            "The `mean` of one number per seed with the ends `low` and `high` of its 95 % t interval, and the `count`. A \
             difference that is taken within each seed gives an interval paired by seed. One value has no interval, and \
             equal values have none: they do not tell how far apart seeds can be.",
        )
        .input("values", "The numbers, at least one.")
        .example("estimate_mean([61.0, 58.5, 63.0]).low")
}

fn run(_: &Lab, _: &Call, (values,): (Vec<f64>,), _: ()) -> Result<Plain<Estimated>> {
    ensure!(!values.is_empty(), "`estimate_mean` was given no values"; help: "leave out what has none");
    ensure!(values.iter().all(|value| value.is_finite()), "a value is not finite"; help: "leave it out and count it");
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let spread = values.iter().any(|value| *value != values[0]);
    let interval = if spread { Some(t_interval(&values, CONFIDENCE)?) } else { None };
    Ok(Plain(Estimated {
        mean,
        low: interval.map(|interval| interval.low),
        high: interval.map(|interval| interval.high),
        count: values.len(),
    }))
}
