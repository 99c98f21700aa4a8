//! `sweep`: calls a closure for every point of a grid; and the handle that scripts hold for what comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{Dynamic, FnPtr, Map};
use serde_json::{Value, json};

use super::results::Results;
use crate::error::{Error, Result, bail};
use crate::handle;
use crate::lab::Lab;
use crate::script::declaration::Primitive;
use crate::script::handle::{Handle, HandleType, from_dynamic};
use crate::script::kind::Kind;

/// A point of a grid, by the names of its axes.
pub type Point = BTreeMap<String, Value>;

/// The results at every point of a grid.
#[derive(Clone)]
pub struct Cells(pub Arc<Vec<(Point, Vec<Results>)>>);

handle!(Cells);

impl Handle for Cells {
    const NAME: &'static str = "Cells";
    fn identity(&self) -> Value {
        let cells = self.0.iter().map(|(point, results)| {
            json!({ "point": point, "results": results.iter().map(Handle::identity).collect::<Vec<_>>() })
        });
        Value::Array(cells.collect())
    }
    fn describe(&self) -> String {
        format!("Cells: results at {} points", self.0.len())
    }
}

impl Cells {
    /// Whether equal seeds at two points mean equal data order; the models of a table are numbered as they come.
    pub fn seeds_are_pairs(&self) -> bool {
        self.0.iter().flat_map(|(_, results)| results).all(|results| results.model().is_ok())
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Cells>("Results at every point of a grid, for `plot` and `report`.")
        .property("count", "Number of points.", |cells: &Cells| Ok(cells.0.len() as i64))
        .property("evaluations", "Names of the evaluations, in order of appearance.", |cells: &Cells| {
            let mut names: Vec<String> = Vec::new();
            for part in cells.0.iter().flat_map(|(_, results)| results).flat_map(|results| results.parts()) {
                if !names.contains(&part.evaluation.id) {
                    names.push(part.evaluation.id.clone());
                }
            }
            Ok(names)
        })
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::host("sweep", |_, context, arguments| {
        let grid = arguments[0].clone().try_cast::<Map>();
        let closure = arguments[1].clone().try_cast::<FnPtr>();
        let (Some(grid), Some(closure)) = (grid, closure) else {
            return Err(Error::input("`sweep` takes a map of arrays and a closure").into());
        };
        let points = expand(&grid)?;
        let mut cells = Vec::with_capacity(points.len());
        for point in points {
            let value: Value = from_dynamic(&Dynamic::from_map(point.clone()))?;
            let returned = closure.call_within_context::<Dynamic>(context, (point,))?;
            let Value::Object(fields) = value else { unreachable!("a map becomes an object") };
            // Not every combination exists: a setting may lack what another one has.
            if !returned.is_unit() {
                cells.push((fields.into_iter().collect(), results_of(returned)?));
            }
        }
        if cells.is_empty() {
            let error = Error::input("the closure of `sweep` returned `()` at every point of the grid");
            return Err(error.with_help("end it with `evaluate(...)`, without a semicolon").into());
        }
        Ok(Dynamic::from(Cells(Arc::new(cells))))
    })
    .about(
        "Calls the closure once for every combination of the grid's values, with a map of the values; it returns the \
         results at that point, one or an array, or `()` where there is nothing to measure. What takes long runs meanwhile in the background, on all cores.",
    )
    .input_of(
        "grid",
        Kind::Map(Box::new(Kind::Any)),
        "A map from the name of each axis to an array of its values; `seed` is averaged over.",
    )
    .input_of("cell", Kind::Function, "A closure from a point to `Results`.")
    .output("Cells")
    .example("sweep(#{ ratio: [0.0, 0.5, 1.0], seed: [0, 1, 2] }, |cell| evaluate(base, evaluations))")
}

fn results_of(returned: Dynamic) -> Result<Vec<Results>> {
    if let Some(results) = returned.clone().try_cast::<Results>() {
        return Ok(vec![results]);
    }
    let found = returned.type_name().to_string();
    if let Some(items) = returned.try_cast::<rhai::Array>()
        && let Some(results) = items.into_iter().map(|item| item.try_cast::<Results>()).collect::<Option<Vec<_>>>()
        && !results.is_empty()
    {
        return Ok(results);
    }
    bail!("the closure of `sweep` returns Results, found {found}"; help: "end it with `evaluate(...)`, without a semicolon")
}

/// All combinations, the last axis (by name) changing fastest.
fn expand(grid: &Map) -> Result<Vec<Map>> {
    let mut points = vec![Map::new()];
    for (axis, values) in grid {
        let Some(values) = values.clone().try_cast::<rhai::Array>() else {
            bail!("`{axis}` of the grid is {}, not an array", grid[axis].type_name(); help: "write `{axis}: [...]`");
        };
        if values.is_empty() {
            bail!("`{axis}` of the grid is empty"; help: "give it at least one value");
        }
        points = points
            .into_iter()
            .flat_map(|point| {
                values.iter().map(move |value| {
                    let mut longer = point.clone();
                    longer.insert(axis.clone(), value.clone());
                    longer
                })
            })
            .collect();
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_is_the_product_of_its_axes() {
        let grid = Map::from_iter([
            ("a".into(), Dynamic::from_array(vec![1.into(), 2.into()])),
            ("b".into(), Dynamic::from_array(vec![3.into(), 4.into(), 5.into()])),
        ]);
        let points = expand(&grid).unwrap();
        assert_eq!(points.len(), 6);
        assert_eq!(points[1]["a"].as_int(), Ok(1));
        assert_eq!(points[1]["b"].as_int(), Ok(4));
    }

    #[test]
    fn an_axis_must_be_an_array_with_values() {
        let bad = Map::from_iter([("seed".into(), Dynamic::from(3_i64))]);
        assert!(expand(&bad).unwrap_err().message.contains("`seed` of the grid is i64"));
        let empty = Map::from_iter([("seed".into(), Dynamic::from_array(vec![]))]);
        assert!(expand(&empty).unwrap_err().message.contains("empty"));
    }
}
