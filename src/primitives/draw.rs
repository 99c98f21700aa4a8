//! `draw`, `write_json`, `write_text`: figures and files of a script's own making, in the run's folder.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plot::save_figure;
use crate::error::Error;
use crate::lab::Lab;
use crate::plot::figure;
use crate::script::declaration::{Call, Primitive};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Name of the files.
    save: String,
}

impl Default for Options {
    fn default() -> Self {
        Options { save: "figure".to_string() }
    }
}

/// The declaration of `draw`.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("draw", |lab: &Lab, _: &Call, (map,): (Value,), options: Options| {
        let mut figure: figure::Figure = serde_json::from_value(map).map_err(|error| {
            Error::input(format!("this is no figure: {error}"))
                .with_help("give it a `title` and a `kind` with one of `line`, `bars`, `curve`, `dots`, `heat`, `scatter`, `density`, `histogram`")
        })?;
        if figure.subtitle.is_empty() {
            figure.subtitle = lab.title().1.to_string();
        }
        save_figure(lab, &figure, &options.save)
    })
    .about(
        "Draws a figure from a map, as SVG, PNG and PDF in the run's folder: `title`, `caption` (lines) and `kind`, one of \
         `line: #{ x, y, series: [#{ label, points: [#{ x, mean, low, high }] }] }`, `bars: #{ y, groups }`, \
         `curve: #{ x_label, y_label, traces: [#{ label, points: [#{ x, y }] }], diagonal }`, `dots: #{ y, groups: [#{ \
         label, dots: [#{ series, mean, low, high }] }] }`, `heat: #{ x_label, y_label, columns, rows, cells: [[#{ value \
         }]] }`, `scatter: #{ x, y, marks: [#{ label, x, y }] }`, `density: #{ x, y, panels: [#{ label, points }] }` or \
         `histogram: #{ x, rows: [#{ label, values }] }`.",
    )
    .input("figure", "The map.")
    .example(
        "draw(#{ title: \"ROC\", kind: #{ curve: #{ x_label: \"FPR\", y_label: \"TPR\", diagonal: \"chance\", traces: \
         [#{ label: \"gold\", points: roc }] } } }, #{ save: \"roc\" })",
    )
}

/// The declaration of `write_json`.
pub fn json_primitive() -> Primitive<Lab> {
    Primitive::new("write_json", |lab: &Lab, _: &Call, (name, value): (String, Value), _: ()| {
        if lab.planning() {
            return Ok(name);
        }
        let text = serde_json::to_string_pretty(&value).map_err(|error| Error::internal(error.to_string()))?;
        lab.write_result(&name, (text + "\n").as_bytes())
    })
    .about("Writes a map or array as a JSON file into the run's folder. Returns its path.")
    .input("name", "Name of the file.")
    .input("value", "What to write.")
    .example("write_json(\"step_0_base.json\", #{ step: 0 })")
}

/// The declaration of `write_text`.
pub fn text_primitive() -> Primitive<Lab> {
    Primitive::new(
        "write_text",
        |lab: &Lab, _: &Call, (name, text): (String, String), _: ()| {
            if lab.planning() { Ok(name) } else { lab.write_result(&name, text.as_bytes()) }
        },
    )
    .about("Writes a text file into the run's folder. Returns its path.")
    .input("name", "Name of the file.")
    .input("text", "What to write.")
    .example("write_text(\"report.txt\", \"nothing was found\")")
}

/// The declaration of `fixed`.
pub fn fixed_primitive() -> Primitive<Lab> {
    Primitive::new("fixed", |_: &Lab, _: &Call, (number, digits): (f64, usize), _: ()| Ok(format!("{number:.digits$}")))
        .about("A number with this many digits after the point, for tables.")
        .input("number", "The number.")
        .input("digits", "How many.")
        .example("fixed(0.98765, 3)")
}
