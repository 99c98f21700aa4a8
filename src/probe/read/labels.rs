//! Labels of texts as truth values, read through a table of which words are positive and which negative.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::array::Scalar;
use super::{Format, npy, npz, recognize, safetensors, texts};
use crate::error::{Error, Result, bail, ensure, nearest};

/// Words for alignment faking (class 1).
const POSITIVE: [&str; 4] = ["alignment_faking", "potential_faking", "faking", "scheming"];
/// Words for its absence (class 0).
const NEGATIVE: [&str; 4] = ["aligned", "genuine_compliance", "hard_negative", "compliant"];

/// Which labels are positive and which are negative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelTable {
    positive: Vec<String>,
    negative: Vec<String>,
}

impl Default for LabelTable {
    fn default() -> Self {
        let owned = |words: [&str; 4]| words.map(String::from).to_vec();
        LabelTable { positive: owned(POSITIVE), negative: owned(NEGATIVE) }
    }
}

impl LabelTable {
    /// The default table and the given words, which win where the default table says otherwise.
    ///
    /// # Errors
    /// A word that is given as both.
    pub fn new(positive: &[String], negative: &[String]) -> Result<Self> {
        if let Some(both) = positive.iter().find(|word| negative.contains(word)) {
            bail!("the label `{both}` is in `positive` and in `negative`"; help: "keep it in one of them");
        }
        let mut table = Self::default();
        table.positive.retain(|word| !negative.contains(word) && !positive.contains(word));
        table.negative.retain(|word| !negative.contains(word) && !positive.contains(word));
        table.positive.extend_from_slice(positive);
        table.negative.extend_from_slice(negative);
        Ok(table)
    }

    /// Whether a word is positive; `None` where it is in neither list.
    pub fn get(&self, word: &str) -> Option<bool> {
        if self.positive.iter().any(|known| known == word) {
            Some(true)
        } else {
            self.negative.iter().any(|known| known == word).then_some(false)
        }
    }

    /// Words of the table come first; otherwise 0, 1, false and true mean themselves.
    fn read(&self, label: &Scalar) -> Option<bool> {
        self.get(&label.to_string()).or(match label {
            Scalar::Bool(positive) => Some(*positive),
            Scalar::Integer(0) => Some(false),
            Scalar::Integer(1) => Some(true),
            _ => None,
        })
    }
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scalar::Bool(truth) => write!(f, "{truth}"),
            Scalar::Integer(number) => write!(f, "{number}"),
            Scalar::Text(text) => write!(f, "{text}"),
        }
    }
}

/// One label per row, as truth and as the file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    positive: Vec<bool>,
    /// Every label once, in order of appearance, and which of them a row has.
    words: Vec<String>,
    word_of: Vec<u32>,
}

impl Labels {
    /// Labels given as words, such as those of texts; `name` is what errors call their file.
    ///
    /// # Errors
    /// A word that is not in the table, with its row.
    pub fn from_words<'a>(name: &str, words: impl IntoIterator<Item = &'a str>, table: &LabelTable) -> Result<Self> {
        Self::from_scalars(name, words.into_iter().map(|word| Scalar::Text(word.into())), table)
    }

    fn from_scalars(name: &str, scalars: impl IntoIterator<Item = Scalar>, table: &LabelTable) -> Result<Self> {
        let mut labels = Labels::default();
        let mut known: HashMap<String, (u32, bool)> = HashMap::new();
        for (row, scalar) in scalars.into_iter().enumerate() {
            let word = scalar.to_string();
            let (place, positive) = match known.get(&word) {
                Some(found) => *found,
                None => {
                    let positive = table.read(&scalar).ok_or_else(|| unknown(name, row, &word, table))?;
                    let found = (labels.words.len() as u32, positive);
                    labels.words.push(word.clone());
                    known.insert(word, found);
                    found
                }
            };
            labels.positive.push(positive);
            labels.word_of.push(place);
        }
        Ok(labels)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.positive.len()
    }
    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.positive.is_empty()
    }
    /// Whether each row is positive.
    pub fn positive(&self) -> &[bool] {
        &self.positive
    }
    /// A row's label as the file has it; numbers and truth values as text.
    pub fn word(&self, row: usize) -> &str {
        &self.words[self.word_of[row] as usize]
    }
    /// Every label of the file with its number of rows, in order of appearance.
    pub fn counts(&self) -> Vec<(&str, usize)> {
        let mut counts: Vec<(&str, usize)> = self.words.iter().map(|word| (word.as_str(), 0)).collect();
        self.word_of.iter().for_each(|place| counts[*place as usize].1 += 1);
        counts
    }
}

fn unknown(name: &str, row: usize, word: &str, table: &LabelTable) -> Error {
    let known = table.positive.iter().chain(&table.negative).map(String::as_str);
    let near = nearest(word, known).map(|near| format!("did you mean `{near}`? else ")).unwrap_or_default();
    Error::input(format!(
        "`{name}` has the label `{word}` in row {row}, which is known neither as positive nor negative"
    ))
    .with_help(format!("{near}add it to `positive` or `negative`; rows are counted from 0"))
}

/// Reads labels from the content of a file: an .npy of whole numbers, truth values or texts; the array `labels` of an
/// .npz or .safetensors; a JSON list, or an object with the list `labels` or with texts that have a `label`. What an
/// object says of its labels (`n_samples`, `label_counts`, `unique_labels`) must be true.
///
/// # Errors
/// A pickle, or another format; a label that the table does not know, with its row.
pub fn read_labels(name: &str, bytes: &[u8], table: &LabelTable) -> Result<Labels> {
    let scalars = match recognize(name, bytes)? {
        Format::Npy => npy::read_npy(&format!("`{name}`"), Cow::Borrowed(bytes))?.scalars()?,
        Format::Npz => npz::Archive::open(name, bytes)?.array("labels")?.scalars()?,
        Format::Safetensors => safetensors::Tensors::open(name, bytes)?.array("labels")?.scalars()?,
        Format::Other => {
            let value = texts::parse(name, bytes)?;
            let scalars = find_scalars(name, &value)?;
            let labels = Labels::from_scalars(name, scalars, table)?;
            check_claims(name, &value, &labels)?;
            return Ok(labels);
        }
    };
    Labels::from_scalars(name, scalars, table)
}

/// Refuses labels that are more or fewer than the rows they belong to.
pub fn check_length(labels_name: &str, labels: &Labels, activations_name: &str, rows: usize) -> Result<()> {
    ensure!(
        labels.len() == rows, "`{labels_name}` has {} labels and `{activations_name}` has {rows} rows", labels.len();
        help: "give the labels of the same texts in the same order"
    );
    Ok(())
}

fn find_scalars(name: &str, value: &Value) -> Result<Vec<Scalar>> {
    let items = match value.get("labels").unwrap_or(value) {
        Value::Array(items) => items.as_slice(),
        _ => texts::find_rows(name, value)?,
    };
    let scalars = items.iter().enumerate().map(|(row, item)| {
        let label = item.get("label").unwrap_or(item);
        let whole = label.as_i64().or_else(|| label.as_f64().filter(|n| [0.0, 1.0].contains(n)).map(|n| n as i64));
        match label {
            Value::String(word) => Ok(Scalar::Text(word.clone())),
            Value::Bool(truth) => Ok(Scalar::Bool(*truth)),
            Value::Number(number) => whole
                .map(Scalar::Integer)
                .ok_or_else(|| Error::input(format!("`{name}` has the label {number} in row {row}"))),
            _ => bail!("`{name}` has no label in row {row}, expected a text, a whole number or a truth value";
                help: "give every row a label; rows are counted from 0"),
        }
    });
    scalars.collect()
}

/// What the object says of its labels, against the labels.
fn check_claims(name: &str, value: &Value, labels: &Labels) -> Result<()> {
    if let Some(claimed) = value.get("n_samples").and_then(Value::as_u64) {
        let found = labels.len();
        ensure!(claimed == found as u64, "`{name}` has {found} labels but its `n_samples` is {claimed}");
    }
    let counts: HashMap<&str, usize> = labels.counts().into_iter().collect();
    if let Some(claims) = value.get("label_counts").and_then(Value::as_object) {
        for (word, claimed) in claims {
            let found = counts.get(word.as_str()).copied().unwrap_or(0);
            ensure!(
                claimed.as_u64() == Some(found as u64),
                "`{name}` has {found} labels `{word}` but its `label_counts` has {claimed}"
            );
        }
        let missing = labels.words.iter().find(|word| !claims.contains_key(*word));
        if let Some(word) = missing {
            bail!("`{name}` has the label `{word}`, which its `label_counts` lacks");
        }
    }
    if let Some(claims) = value.get("unique_labels").and_then(Value::as_array) {
        let claimed: Vec<String> = claims.iter().map(texts::plain).collect();
        let equal = claimed.len() == counts.len() && claimed.iter().all(|word| counts.contains_key(word.as_str()));
        ensure!(equal, "`{name}` has the labels {:?} but its `unique_labels` are {claimed:?}", labels.words);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Labels> {
        read_labels("y.json", text.as_bytes(), &LabelTable::default())
    }

    #[test]
    fn zero_one_and_truth_values_mean_themselves_unless_the_table_says_otherwise() {
        assert_eq!(read("[0, 1, 1.0, true, false]").unwrap().positive(), [false, true, true, true, false]);
        let turned = LabelTable::new(&["0".into(), "-1".into()], &["1".into(), "faking".into()]).unwrap();
        let labels = read_labels("y.json", br#"[0, 1, -1, "faking", "aligned"]"#, &turned).unwrap();
        assert_eq!(labels.positive(), [true, false, true, false, false]);
        assert!(LabelTable::new(&["x".into()], &["x".into()]).unwrap_err().message.contains("`x`"));
    }

    #[test]
    fn an_unknown_label_is_named_with_its_row() {
        let error = read(r#"["aligned", "aligend"]"#).unwrap_err();
        assert_eq!(
            error.message,
            "`y.json` has the label `aligend` in row 1, which is known neither as positive nor negative"
        );
        assert!(error.help.unwrap().starts_with("did you mean `aligned`? else add it to `positive` or `negative`"));
        assert!(read("[0, 2]").unwrap_err().message.contains("label `2` in row 1"));
        assert!(read("[0, 0.5]").unwrap_err().message.contains("label 0.5 in row 1"));
        assert!(read("[0, null]").unwrap_err().message.contains("no label in row 1"));
        // A text is no number: it has to be in the table.
        assert!(read(r#"["1"]"#).is_err());
    }

    #[test]
    fn what_an_object_says_of_its_labels_must_be_true() {
        let object = |rest: &str| read(&format!(r#"{{"labels": ["faking", "aligned", "faking"]{rest}}}"#));
        let true_claims = r#", "n_samples": 3, "label_counts": {"faking": 2, "aligned": 1}, "token_counts": [1, 2, 3],
            "unique_labels": ["aligned", "faking"]"#;
        assert_eq!(object(true_claims).unwrap().counts(), [("faking", 2), ("aligned", 1)]);
        for (claim, words) in [
            (r#", "n_samples": 4"#, "has 3 labels but its `n_samples` is 4"),
            (r#", "label_counts": {"faking": 1, "aligned": 1}"#, "has 2 labels `faking` but its `label_counts` has 1"),
            (r#", "label_counts": {"faking": 2}"#, "has the label `aligned`, which its `label_counts` lacks"),
            (r#", "unique_labels": ["faking", "scheming"]"#, "but its `unique_labels` are"),
        ] {
            let error = object(claim).unwrap_err();
            assert!(error.message.contains(words), "{error}");
        }
        assert_eq!(read(r#"{"samples": [{"text": "a", "label": "faking"}]}"#).unwrap().positive(), [true]);
    }

    #[test]
    fn lengths_must_agree() {
        let labels = read("[0, 1]").unwrap();
        assert!(check_length("y.json", &labels, "x.npy", 2).is_ok());
        let error = check_length("y.json", &labels, "x.npy", 3).unwrap_err();
        assert_eq!(error.message, "`y.json` has 2 labels and `x.npy` has 3 rows");
    }
}
