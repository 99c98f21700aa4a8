//! A linear probe as two files: JSON for people and safetensors for the numbers, the scaler among them.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::linear::Linear;
use super::scaler::Scaler;
use crate::data::digest::Digest;
use crate::error::{Error, Result, ensure};

/// Version of the two files that this release writes, and the only one it reads.
pub const FORMAT_VERSION: u64 = 1;

/// Everything about a probe that is not one of its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// How it was fitted: `logistic`, `mean_difference`.
    pub method: String,
    /// The options of the method, by name.
    pub options: BTreeMap<String, Value>,
    /// How features were scaled before the fit: `standard`, `none`.
    pub scaler: String,
    /// What class 0 and class 1 are called, in this order.
    pub label_names: [String; 2],
    /// Which columns of an activations file the weights belong to, in their order.
    pub features: Features,
    /// Number of columns of the activations that it was trained on; a file of another width does not fit.
    pub columns: usize,
    /// What it was trained on: sources, rows, digests.
    pub training: BTreeMap<String, Value>,
    /// How near the fit is to the optimum; missing for methods that do not optimise.
    pub certificate: Option<Value>,
    /// Anything else worth knowing: layer, model, scores.
    pub facts: BTreeMap<String, Value>,
}

/// Columns of an activations file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Features {
    /// `count` columns one after another.
    Range {
        /// The first of them.
        first: u32,
        /// How many.
        count: u32,
    },
    /// These columns, ascending.
    List(Vec<u32>),
}

impl Features {
    /// The columns; a range where they follow one another.
    pub fn of(columns: Vec<u32>) -> Self {
        match columns.first() {
            Some(first) if columns.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1])) => {
                Features::Range { first: *first, count: columns.len() as u32 }
            }
            _ => Features::List(columns),
        }
    }
    /// Number of columns.
    pub fn count(&self) -> usize {
        match self {
            Features::Range { count, .. } => *count as usize,
            Features::List(columns) => columns.len(),
        }
    }
    /// Every column, in the order of the weights.
    pub fn columns(&self) -> Vec<u32> {
        match self {
            Features::Range { first, count } => (*first..first.saturating_add(*count)).collect(),
            Features::List(columns) => columns.clone(),
        }
    }
}

/// The text of the `.json` and the bytes of the `.safetensors` file. Equal probes give equal files.
///
/// # Errors
/// Numbers that are not finite, a scale that is not positive, lists whose lengths do not fit the description.
pub fn to_files(probe: &Linear, description: &Description) -> Result<(String, Vec<u8>)> {
    check_fit(probe, description)?;
    let broken = |error: &dyn std::fmt::Display| Error::internal(format!("the probe cannot be written: {error}"));
    let floats = |values: &[f64]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let ids = description.features.columns().iter().flat_map(|id| id.to_le_bytes()).collect();
    let tensors: [(&str, Dtype, Vec<u8>); 5] = [
        ("weights", Dtype::F64, floats(&probe.weights)),
        ("intercept", Dtype::F64, floats(&[probe.intercept])),
        ("mean", Dtype::F64, floats(&probe.scaler.mean)),
        ("scale", Dtype::F64, floats(&probe.scaler.scale)),
        ("feature_ids", Dtype::U32, ids),
    ];
    let views = tensors.iter().map(|(name, kind, bytes)| {
        let length = bytes.len() / if *kind == Dtype::F64 { 8 } else { 4 };
        TensorView::new(*kind, vec![length], bytes).map(|view| (*name, view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| broken(&error))?;
    let bytes = safetensors::serialize(views, None).map_err(|error| broken(&error))?;
    let file = File {
        format_version: FORMAT_VERSION,
        kind: KIND.to_string(),
        feature_count: description.features.count(),
        tensors_digest: Digest::of(&bytes),
        probe: description.clone(),
    };
    let json = serde_json::to_string_pretty(&file).map_err(|error| broken(&error))?;
    Ok((json + "\n", bytes))
}

/// The probe that [`to_files`] wrote, equal to the last bit.
///
/// # Errors
/// JSON that is not a probe's or of another format version; tensors of another probe (by digest), missing, of another
/// shape or type; numbers that no fit gives.
pub fn from_files(json: &str, tensors: &[u8]) -> Result<(Linear, Description)> {
    let value: Value = serde_json::from_str(json)
        .map_err(|error| Error::input(format!("the probe's description is no JSON: {error}")))?;
    match &value["format_version"] {
        Value::Null => crate::bail!("the JSON has no `format_version`, it is no probe of this tool";
            help: "name the .json file that was written beside the .safetensors file"),
        version => {
            ensure!(*version == FORMAT_VERSION,
                "the probe has format version {version}, this release reads version {FORMAT_VERSION}";
                help: "use the release that wrote it, or fit the probe again");
        }
    }
    let kind = &value["kind"];
    ensure!(*kind == KIND, "the probe is of kind {kind}, this release reads \"{KIND}\""; help: "fit the probe again");
    let file: File = serde_json::from_value(value)
        .map_err(|error| Error::input(format!("the probe's description cannot be read: {error}")))?;
    let found = Digest::of(tensors);
    ensure!(found == file.tensors_digest,
        "the tensors have digest {}, the description was written beside {}", found.short(), file.tensors_digest.short();
        help: "keep the two files of a probe together, or fetch them again");
    let tensors = SafeTensors::deserialize(tensors)
        .map_err(|error| Error::input(format!("the probe's tensors cannot be read: {error}")))?;
    let description = file.probe;
    let count = description.features.count();
    ensure!(file.feature_count == count, "the description lists {count} features and says {}", file.feature_count;
        help: "fetch the description again");
    let floats = |name: &str, length: usize| -> Result<Vec<f64>> {
        let bytes = read_tensor(&tensors, name, Dtype::F64, length)?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
    };
    let scaler = Scaler { mean: floats("mean", count)?, scale: floats("scale", count)? };
    let probe = Linear { weights: floats("weights", count)?, intercept: floats("intercept", 1)?[0], scaler };
    let ids = read_tensor(&tensors, "feature_ids", Dtype::U32, count)?;
    let ids: Vec<u32> = ids.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    ensure!(ids == description.features.columns(), "the description and the tensors name different features";
        help: "keep the two files of a probe together, or fetch them again");
    check_fit(&probe, &description)?;
    Ok((probe, description))
}

/// Whether the probe can score activations of so many columns.
///
/// # Errors
/// Another number of columns than it was trained on.
pub fn check_applies(description: &Description, columns: usize) -> Result<()> {
    ensure!(columns == description.columns,
        "the activations have {columns} features, the probe was trained on {}", description.columns;
        help: "use activations of the same model, layer and dictionary as in training");
    Ok(())
}

const KIND: &str = "linear";

/// The JSON file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format_version: u64,
    kind: String,
    feature_count: usize,
    /// Of the .safetensors file.
    tensors_digest: Digest,
    probe: Description,
}

fn read_tensor<'a>(tensors: &SafeTensors<'a>, name: &str, kind: Dtype, length: usize) -> Result<&'a [u8]> {
    let view = tensors.tensor(name).map_err(|_| {
        Error::input(format!("the probe lacks the tensor `{name}`"))
            .with_help("fit the probe again, or fetch its files again")
    })?;
    ensure!(view.dtype() == kind && view.shape() == [length],
        "tensor `{name}` is {:?} of shape {:?}, expected {kind:?} of shape [{length}]", view.dtype(), view.shape();
        help: "fit the probe again, or fetch its files again");
    Ok(view.data())
}

fn check_fit(probe: &Linear, description: &Description) -> Result<()> {
    let lengths = [probe.weights.len(), probe.scaler.mean.len(), probe.scaler.scale.len()];
    let count = description.features.count();
    ensure!(lengths == [count; 3],
        "the probe has {} weights, {} means and {} scales for {count} features", lengths[0], lengths[1], lengths[2];
        help: "name the features that it was fitted on");
    let columns = description.features.columns();
    ensure!(columns.len() == count && columns.windows(2).all(|pair| pair[0] < pair[1]),
        "the features of the probe are not in ascending order"; help: "list each column once, ascending");
    ensure!(columns.last().is_none_or(|last| (*last as usize) < description.columns),
        "the probe uses column {} of {}", columns[count - 1], description.columns;
        help: "give the number of columns of the training activations");
    for (name, values) in [("weights", &probe.weights), ("mean", &probe.scaler.mean), ("scale", &probe.scaler.scale)] {
        let broken = values.iter().position(|value| !value.is_finite() || (name == "scale" && *value <= 0.0));
        if let Some(place) = broken {
            crate::bail!("`{name}` of feature {} is {}", columns[place], values[place];
                help: "fit the probe on finite activations");
        }
    }
    ensure!(probe.intercept.is_finite(), "`intercept` is {}", probe.intercept;
        help: "fit the probe on finite activations");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn example() -> (Linear, Description) {
        let scaler = Scaler { mean: vec![0.1, 2.0, -3.0], scale: vec![1.0, 0.5, 1e-300] };
        let probe = Linear { weights: vec![0.1 + 0.2, -0.0, 5e-324], intercept: -1.701871458288, scaler };
        let object = |name: &str, value: Value| BTreeMap::from([(name.to_string(), value)]);
        let description = Description {
            method: "logistic".to_string(),
            options: object("c", json!(0.1)),
            scaler: "standard".to_string(),
            label_names: ["aligned".to_string(), "alignment_faking".to_string()],
            features: Features::List(vec![0, 4, 7]),
            columns: 9,
            training: object("train", json!({"rows": 2689, "positives": 1057})),
            certificate: Some(json!({"gradient_norm": 1.2345678901234567e-9})),
            facts: object("layer", json!(40)),
        };
        (probe, description)
    }

    /// Files of the example after a change to the JSON, and to the tensors with the digest made to fit again.
    fn changed(change: impl Fn(&mut Value), tensors: Option<Vec<(&str, TensorView<'_>)>>) -> String {
        let (probe, description) = example();
        let (json, mut bytes) = to_files(&probe, &description).unwrap();
        let mut value: Value = serde_json::from_str(&json).unwrap();
        if let Some(tensors) = tensors {
            bytes = safetensors::serialize(tensors, None).unwrap();
            value["tensors_digest"] = json!(Digest::of(&bytes).to_string());
        }
        change(&mut value);
        from_files(&value.to_string(), &bytes).unwrap_err().to_string()
    }

    #[test]
    fn other_files_are_refused() {
        assert_eq!(
            changed(|file| file["format_version"] = json!(2), None),
            "the probe has format version 2, this release reads version 1\n\
             help: use the release that wrote it, or fit the probe again"
        );
        assert!(changed(|file| *file = json!({"a": 1}), None).starts_with("the JSON has no `format_version`"));
        assert!(changed(|file| file["kind"] = json!("forest"), None).starts_with("the probe is of kind \"forest\""));
        assert!(changed(|file| file["probe"]["columns"] = json!(7), None).starts_with("the probe uses column 7 of 7"));
        assert!(
            changed(|file| file["probe"]["features"] = json!({"list": [0, 4, 8]}), None)
                .starts_with("the description and the tensors name different features")
        );
        let unknown = changed(|file| file["probe"]["c"] = json!(1), None);
        assert!(unknown.contains("unknown field `c`"), "{unknown}");
        let (probe, description) = example();
        let (json, bytes) = to_files(&probe, &description).unwrap();
        assert!(from_files("{", &bytes).unwrap_err().message.starts_with("the probe's description is no JSON"));
        let other = Linear { intercept: 1.0, ..probe };
        let (_, other_bytes) = to_files(&other, &description).unwrap();
        let error = from_files(&json, &other_bytes).unwrap_err().message;
        assert!(error.starts_with("the tensors have digest "), "{error}");
    }

    #[test]
    fn tensors_that_are_missing_or_misshapen_are_named() {
        let bytes = [0u8; 24];
        let mean = || ("mean", TensorView::new(Dtype::F64, vec![3], &bytes).unwrap());
        let short = ("scale", TensorView::new(Dtype::F64, vec![2], &bytes[..16]).unwrap());
        assert!(changed(|_| {}, Some(vec![mean()])).starts_with("the probe lacks the tensor `scale`"));
        assert!(
            changed(|_| {}, Some(vec![mean(), short]))
                .starts_with("tensor `scale` is F64 of shape [2], expected F64 of shape [3]")
        );
    }

    #[test]
    fn numbers_that_no_fit_gives_are_not_saved() {
        let refused = |change: &dyn Fn(&mut Linear)| {
            let (mut probe, description) = example();
            change(&mut probe);
            to_files(&probe, &description).unwrap_err().message
        };
        assert_eq!(refused(&|probe| probe.weights[1] = f64::NAN), "`weights` of feature 4 is NaN");
        assert_eq!(refused(&|probe| probe.scaler.scale[2] = 0.0), "`scale` of feature 7 is 0");
        assert_eq!(refused(&|probe| probe.intercept = f64::INFINITY), "`intercept` is inf");
        assert!(refused(&|probe| probe.weights.truncate(2)).starts_with("the probe has 2 weights, 3 means"));
    }

    #[test]
    fn a_probe_applies_to_activations_of_its_width() {
        let (_, description) = example();
        assert!(check_applies(&description, 9).is_ok());
        let error = check_applies(&description, 16_384).unwrap_err();
        assert_eq!(error.message, "the activations have 16384 features, the probe was trained on 9");
    }

    #[test]
    fn columns_in_a_row_are_a_range() {
        assert_eq!(Features::of(vec![3, 4, 5]), Features::Range { first: 3, count: 3 });
        assert_eq!(Features::of(vec![3, 5]), Features::List(vec![3, 5]));
        assert_eq!(Features::of(vec![]).count(), 0);
        let (json, _) = to_files(&example().0, &example().1).unwrap();
        assert!(json.contains("\"feature_count\": 3") && json.contains("\"tensors_digest\""));
    }

    fn finite() -> impl Strategy<Value = f64> {
        any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite())
    }

    proptest! {
        #[test]
        fn a_probe_reads_back_to_the_last_bit(
            numbers in proptest::collection::vec((finite(), finite(), finite(), 1u32..4), 0..40),
            intercept in finite(), fact in finite(),
        ) {
            let mut ids = Vec::new();
            numbers.iter().for_each(|(_, _, _, step)| ids.push(ids.last().copied().unwrap_or(0) + step));
            let scale = numbers.iter().map(|n| n.2.abs().max(f64::MIN_POSITIVE)).collect();
            let scaler = Scaler { mean: numbers.iter().map(|n| n.1).collect(), scale };
            let probe = Linear { weights: numbers.iter().map(|n| n.0).collect(), intercept, scaler };
            let mut description = Description { features: Features::of(ids), columns: 200, ..example().1 };
            description.facts.insert("fact".to_string(), json!(fact));
            let (json, bytes) = to_files(&probe, &description).unwrap();
            let (back, described) = from_files(&json, &bytes).unwrap();
            prop_assert_eq!(&described, &description);
            prop_assert_eq!(described.facts["fact"].as_f64().map(f64::to_bits), Some(fact.to_bits()));
            let bits = |probe: &Linear| -> Vec<u64> {
                let numbers = probe.weights.iter().chain(&probe.scaler.mean).chain(&probe.scaler.scale);
                numbers.chain([&probe.intercept]).map(|value| value.to_bits()).collect()
            };
            prop_assert_eq!(bits(&back), bits(&probe));
            prop_assert_eq!(to_files(&back, &described).unwrap(), (json, bytes));
        }
    }
}
