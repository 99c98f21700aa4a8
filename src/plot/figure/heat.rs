//! Input of a heat map: a matrix of values with names for rows and columns.

use serde::{Deserialize, Serialize};

use super::{Scale, check_value};
use crate::ensure;
use crate::error::Result;

/// The most rows or columns.
const MOST: usize = 60;

/// A matrix whose values are colours and numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heat {
    /// What the columns are.
    pub x_label: String,
    /// What the rows are.
    pub y_label: String,
    /// Names of the columns from left to right, each once.
    pub columns: Vec<String>,
    /// Names of the rows from above to below, each once.
    pub rows: Vec<String>,
    /// A list per row with as many cells as there are columns; a cell that is absent is hatched and says `n/a`.
    pub cells: Vec<Vec<Option<Cell>>>,
    /// What is measured, with its unit: written along the colour bar.
    #[serde(default)]
    pub value_label: String,
    /// What the colours must at least show, such as (0, 100); from the data when absent.
    #[serde(default)]
    pub range: Option<(f64, f64)>,
    /// Whether values are differences: two colours meet in a pale one at 0, and both sides reach as far.
    #[serde(default)]
    pub diverging: bool,
    /// Digits after the point of the values in the cells; when absent, as many as four digits in all need.
    #[serde(default)]
    pub decimals: Option<usize>,
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Colour and number.
    pub value: f64,
    /// Small below the number, such as an interval; empty for none.
    #[serde(default)]
    pub note: String,
}

pub(super) fn check_heat(title: &str, heat: &Heat) -> Result<()> {
    for (what, labels) in [("row", &heat.rows), ("column", &heat.columns)] {
        ensure!(!labels.is_empty(), "figure `{title}` has no {what}s"; help: "name at least one {what}");
        ensure!(
            labels.len() <= MOST,
            "figure `{title}` has {} {what}s, more than {MOST}", labels.len(); help: "split it or leave some out"
        );
        for (index, label) in labels.iter().enumerate() {
            ensure!(!labels[..index].contains(label), "{what} `{label}` appears twice"; help: "name every {what} once");
        }
    }
    ensure!(
        heat.cells.len() == heat.rows.len(),
        "there are cells for {} rows and names for {}", heat.cells.len(), heat.rows.len();
        help: "give one list of cells per row"
    );
    for (row, cells) in heat.rows.iter().zip(&heat.cells) {
        ensure!(
            cells.len() == heat.columns.len(),
            "row `{row}` has {} cells and there are {} columns", cells.len(), heat.columns.len();
            help: "write absent cells as null"
        );
        for (column, cell) in heat.columns.iter().zip(cells) {
            let name = format!("the cell of row `{row}` and column `{column}`");
            cell.iter().try_for_each(|cell| check_value(&name, "value", cell.value, Scale::Linear))?;
        }
    }
    let is_empty = heat.cells.iter().flatten().all(Option::is_none);
    ensure!(!is_empty, "figure `{title}` has no value in any cell"; help: "give at least one value");
    let range = heat.range.unwrap_or((0.0, 1.0));
    ensure!(
        range.0 < range.1 && range.0.is_finite() && range.1.is_finite(),
        "the range of the colours is {} to {}", range.0, range.1; help: "write the smaller number first"
    );
    ensure!(heat.decimals.unwrap_or(0) <= 9, "values cannot have {} decimals", heat.decimals.unwrap_or(0); help: "choose 0 to 9");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::super::{Kind, check};
    use super::*;

    #[test]
    fn refusals_name_row_and_column() {
        let good = samples::heat(3, 2);
        assert_eq!(check(&good), Ok(()));
        let message = |change: &dyn Fn(&mut Heat)| {
            let mut figure = good.clone();
            let Kind::Heat(heat) = &mut figure.kind else { panic!("no heat map") };
            change(heat);
            check(&figure).unwrap_err().message
        };
        assert_eq!(
            message(&|heat| heat.cells[2][1] = Some(Cell { value: f64::NAN, ..Cell::default() })),
            "the cell of row `legal_advice` and column `reward_hacking`: value is NaN"
        );
        assert_eq!(message(&|heat| _ = heat.cells[0].pop()), "row `insecure_code` has 1 cells and there are 2 columns");
        assert_eq!(message(&|heat| _ = heat.cells.pop()), "there are cells for 2 rows and names for 3");
        assert_eq!(message(&|heat| heat.rows[1] = heat.rows[0].clone()), "row `insecure_code` appears twice");
        assert!(message(&|heat| heat.columns.clear()).ends_with("has no columns"));
        assert!(message(&|heat| heat.range = Some((1.0, 1.0))).ends_with("is 1 to 1"));
        assert!(message(&|heat| heat.cells.iter_mut().flatten().for_each(|cell| *cell = None)).ends_with("any cell"));
    }
}
