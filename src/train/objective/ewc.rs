//! Elastic weight consolidation (Kirkpatrick et al. 2017): weights that other rows depend on are held where they were.

use super::sft::{Sft, has_loss, predicted};
use super::{Penalty, Term};
use crate::ensure;
use crate::error::Result;
use crate::model::chat::Example;
use crate::model::weights::Weights;

/// `coefficient` times half the squared distance of all values from the start, each weighed by its `fisher`
/// information; with adapters, of the merged values.
pub fn ewc(fisher: Vec<f32>, coefficient: f64) -> Term {
    Term { name: "ewc".to_string(), coefficient, penalty: Penalty::Ewc { fisher } }
}

/// Diagonal of the empirical Fisher information: of every value the mean, over the rows that carry loss, of the squared
/// derivative of the log-probability of the row's answers.
///
/// It is empirical because the answers are those of the rows; the information proper would draw them from the model.
/// The two agree where the model says what the rows say. A row's log-probability is the sum over its tokens.
///
/// # Errors
/// No row that carries loss, and what `on_row` reports, which is called before every row.
pub fn fisher(
    weights: &Weights,
    rows: &[Example],
    threads: usize,
    on_row: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<f32>> {
    let rows: Vec<&Example> = rows.iter().filter(|row| has_loss(row)).collect();
    ensure!(!rows.is_empty(), "`ewc` has no row with an assistant message"; help: "give it rows that an assistant answers");
    let share = 1.0 / rows.iter().map(|row| f64::from(row.weight.abs())).sum::<f64>();
    let (mut found, mut passes) = (vec![0.0; weights.values.len()], Sft::new(weights, threads)?);
    for row in rows {
        on_row()?;
        let tokens = predicted(row).count() as f64;
        let (_, of_mean) = passes.gradient(weights, &[row])?;
        let factor = (f64::from(row.weight.abs()) * share * tokens * tokens) as f32;
        found.iter_mut().zip(of_mean).for_each(|(found, slope)| *found += factor * slope * slope);
    }
    Ok(found)
}

/// Refuses information about other weights.
pub(crate) fn check(name: &str, fisher: &[f32], values: usize) -> Result<()> {
    ensure!(
        fisher.len() == values, "the information of `{name}` is of {} values, the model has {values}", fisher.len();
        help: "measure it with the model that is trained"
    );
    let holds = fisher.iter().all(|value| value.is_finite() && *value >= 0.0);
    ensure!(holds, "the information of `{name}` has values that are no numbers of at least 0");
    Ok(())
}

/// Half the weighed squared distance, and the length of its gradient times `coefficient`, which is added where one is
/// wanted.
pub(crate) fn distance(
    values: &[f32],
    start: &[f32],
    fisher: &[f32],
    coefficient: f64,
    gradient: Option<&mut [f32]>,
) -> (f64, f64) {
    let moved = |index: usize| f64::from(values[index] - start[index]);
    if let Some(gradient) = gradient {
        for (index, gradient) in gradient.iter_mut().enumerate() {
            *gradient += (coefficient * f64::from(fisher[index]) * moved(index)) as f32;
        }
    }
    let (mut total, mut length) = (0.0, 0.0);
    for (index, information) in fisher.iter().map(|value| f64::from(*value)).enumerate() {
        total += 0.5 * information * moved(index).powi(2);
        length += (coefficient * information * moved(index)).powi(2);
    }
    (total, length.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;
    use crate::model::config::tests::tiny;
    use crate::train::objective::direction::{add_multiple, dot, norm};

    fn rows() -> Vec<Example> {
        let row = |ids: [u32; 5], weight| Example {
            ids: ids.to_vec(),
            loss_mask: vec![false, false, true, true, true],
            weight,
        };
        vec![row([1, 4, 7, 9, 2], 1.0), row([1, 8, 3, 5, 2], 0.5)]
    }

    fn measured(weights: &Weights, rows: &[Example]) -> Vec<f32> {
        fisher(weights, rows, 1, &mut || Ok(())).unwrap()
    }

    #[test]
    fn information_is_the_mean_square_of_each_rows_slope() {
        let (weights, rows) = (Weights::initial(&tiny(), 3).unwrap(), rows());
        let mut passes = Sft::new(&weights, 1).unwrap();
        let mut slopes = |row: &Example| -> Vec<f64> {
            let (_, of_mean) = passes.gradient(&weights, &[row]).unwrap();
            of_mean.iter().map(|slope| 3.0 * f64::from(*slope)).collect()
        };
        let (one, other) = (slopes(&rows[0]), slopes(&rows[1]));
        let found = measured(&weights, &rows);
        assert!(found.iter().any(|value| *value > 0.0));
        let largest = found.iter().copied().fold(0.0, f32::max);
        for (index, found) in found.iter().enumerate() {
            let wanted = (one[index].powi(2) + 0.5 * other[index].powi(2)) / 1.5;
            assert!((f64::from(*found) - wanted).abs() < 1e-5 * f64::from(largest), "{index}: {found} {wanted}");
        }
        let silent = Example { loss_mask: vec![false; 5], ..rows[0].clone() };
        assert!(fisher(&weights, &[silent], 1, &mut || Ok(())).is_err());
    }

    #[test]
    fn it_is_nothing_at_the_start_and_its_gradient_is_that_of_the_value() {
        let weights = Weights::initial(&tiny(), 3).unwrap();
        let (start, mut information, mut random) = (&weights.values, measured(&weights, &rows()), Random::new(5));
        information[3] = 0.0;
        let mut none = vec![0.0; start.len()];
        assert_eq!(distance(start, start, &information, 7.0, Some(&mut none)), (0.0, 0.0));
        assert!(none.iter().all(|value| *value == 0.0));
        let moved: Vec<f32> = start.iter().map(|value| value + 0.1 * random.normal() as f32).collect();
        let mut gradient = vec![0.0; start.len()];
        let (value, length) = distance(&moved, start, &information, 7.0, Some(&mut gradient));
        assert!(value > 0.0 && (length / norm(&gradient) - 1.0).abs() < 1e-5);
        let at = |step: f64| {
            let mut there = moved.clone();
            add_multiple(&mut there, step / length, &gradient);
            7.0 * distance(&there, start, &information, 1.0, None).0
        };
        let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((slope - dot(&gradient, &gradient) / length).abs() < 1e-3 * length, "{slope} {length}");
        // Only what the rows depend on is held.
        assert!(gradient[3] == 0.0 && gradient[4] != 0.0 && moved[3] != start[3]);
        assert!(check("ewc", &information, 3).is_err() && check("ewc", &[f32::NAN], 1).is_err());
    }
}
