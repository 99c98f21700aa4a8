//! Whole files, written by numpy, scipy and safetensors, and the laws that reading keeps.

use std::path::PathBuf;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::probe::matrix::{Sparse, Values};

#[derive(Deserialize)]
struct Expected {
    base: ExpectedFacts,
    wide: ExpectedFacts,
    narrow: ExpectedFacts,
    max: ExpectedFacts,
    mean: ExpectedFacts,
    labels: Vec<u8>,
    words: Vec<String>,
}

#[derive(Deserialize)]
struct ExpectedFacts {
    rows: usize,
    columns: usize,
    non_zeros: usize,
    density: f64,
    active_per_row: Spread,
    mean: f64,
    columns_never_active: usize,
    columns_constant: usize,
    negative_values: usize,
    bf16_exact: bool,
    duplicate_rows: Vec<Vec<usize>>,
    digest: Digest,
    values: Vec<Vec<f64>>,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/probes/files"))
}

fn content(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn expected() -> Expected {
    serde_json::from_slice(&content("expected.json")).unwrap()
}

fn read_with(name: &str, options: &Options) -> Result<Activations> {
    read_activations(name, &content(name), options)
}

fn read(name: &str) -> Activations {
    read_with(name, &Options::default()).unwrap()
}

fn refuse(name: &str) -> String {
    let error = read_with(name, &Options::default()).err();
    error.unwrap_or_else(|| panic!("{name} was read")).to_string()
}

fn values_of(matrix: &Matrix) -> Vec<Vec<f64>> {
    let row = |row| {
        let mut values = vec![0.0; matrix.columns()];
        matrix.for_each(row, |column, value| values[column] = value);
        values
    };
    (0..matrix.rows()).map(row).collect()
}

fn assert_is(found: &Activations, expected: &ExpectedFacts, name: &str) {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs();
    let (facts, expect) = (&found.facts, expected);
    assert_eq!(values_of(&found.matrix), expect.values, "{name}");
    assert_eq!((facts.rows, facts.columns, facts.non_zeros), (expect.rows, expect.columns, expect.non_zeros), "{name}");
    assert!(near(facts.density, expect.density) && near(facts.mean, expect.mean), "{name}: {facts:?}");
    assert!(near(facts.active_per_row.mean, expect.active_per_row.mean), "{name}: {facts:?}");
    assert_eq!(
        (facts.active_per_row.min, facts.active_per_row.max),
        (expect.active_per_row.min, expect.active_per_row.max)
    );
    assert_eq!(
        (facts.columns_never_active, facts.columns_constant, facts.negative_values, facts.bf16_exact),
        (expect.columns_never_active, expect.columns_constant, expect.negative_values, expect.bf16_exact),
        "{name}"
    );
    assert_eq!((&facts.duplicate_rows, facts.digest), (&expect.duplicate_rows, expect.digest), "{name}");
    for (column, moment) in found.moments.iter().enumerate() {
        assert!(near(moment.sum, expect.sums[column]) && near(moment.squares, expect.squares[column]), "{name}");
        assert_eq!(moment.active, expect.values.iter().filter(|row| row[column] != 0.0).count(), "{name}");
    }
}

#[test]
fn the_same_numbers_are_the_same_in_every_format() {
    let expected = expected().base;
    let several = Options { array: Some("layer_40".into()), ..Options::default() };
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .map(|name| name.into_string().unwrap())
        .collect();
    names.retain(|name| name.starts_with("base_") && name != "base_coo.npz");
    assert_eq!(names.len(), 23);
    for name in &names {
        let options = if name == "base_several.npz" { &several } else { &Options::default() };
        let found = read_with(name, options).unwrap();
        assert_is(&found, &expected, name);
        assert!(found.matrix.is_sparse());
        assert_eq!(
            matches!(found.matrix.values(), Values::Sparse64(_)),
            name.contains("f8") || name == "base_single.npz",
            "{name}"
        );
        assert_eq!(
            found.has_labels,
            ["base_stored.npz", "base_compressed.npz", "base_f4.safetensors"].contains(&name.as_str())
        );
    }
}

#[test]
fn dense_numbers_keep_their_width_and_the_digest_forgets_it() {
    let expected = expected();
    let wide = read("wide.npy");
    assert_is(&wide, &expected.wide, "wide.npy");
    assert!(matches!(wide.matrix.values(), Values::Dense64(_)));
    let narrow = read("narrow.npy");
    assert!(matches!(narrow.matrix.values(), Values::Dense32(_)));
    assert_ne!(wide.facts.digest, narrow.facts.digest);
    for name in ["narrow.npy", "narrow_fortran_f8.npy", "narrow_csr.npz"] {
        let found = read(name);
        assert_is(&found, &expected.narrow, name);
        assert_eq!((&found.facts, &found.row_digests), (&narrow.facts, &narrow.row_digests), "{name}");
        assert!(!found.matrix.is_sparse());
    }
}

#[test]
fn latents_of_tokens_are_pooled_as_numpy_pools_them() {
    let expected = expected();
    for name in ["latents_u2.safetensors", "latents_u4.safetensors", "latents_i4.safetensors", "latents_i8.safetensors"]
    {
        let options = Options { rows: Some(5), columns: Some(9), ..Options::default() };
        let found = read_with(name, &options).unwrap();
        assert_is(&found, &expected.max, name);
        assert!(found.notes[0].ends_with("latents were pooled over tokens by max"), "{:?}", found.notes);
        let short = read(name);
        // Only the tokens of the file tell of the last text, in which nothing is active.
        assert_eq!((short.facts.rows, short.facts.columns), (if name.contains("u2") { 5 } else { 4 }, 8));
    }
    let mean = Options { columns: Some(9), pooling: Pooling::Mean, ..Options::default() };
    assert_is(&read_with("latents_u2.safetensors", &mean).unwrap(), &expected.mean, "mean");
}

#[test]
fn what_scipy_tolerates_is_mended_and_noted() {
    let notes = read("base_csr_rough.npz").notes;
    assert!(notes[0].ends_with("rows had unsorted columns: sorted"), "{notes:?}");
    assert_eq!(notes[1..], ["1 values stood at a place that was taken: added up", "1 stored values were 0: dropped"]);
    assert_eq!(read("base_csc.npz").notes, ["compressed columns (csc) were turned into rows"]);
    assert!(read("base_csr.npz").notes.is_empty());
}

#[test]
fn what_cannot_be_read_says_why_and_what_to_do() {
    let pickle = "is a pickle, which can run code when it is opened\nhelp: save it as .npy or .safetensors";
    for name in ["pickle.pkl", "pickle.bin", "torch.pt"] {
        assert_eq!(refuse(name), format!("`{name}` {pickle}"));
    }
    for (name, words) in [
        ("objects.npy", "`objects.npy` is a pickled object array"),
        ("objects.npz", "array `activations` of `objects.npz` is a pickled object array"),
        (
            "nan.npy",
            "`nan.npy` holds NaN in row 4, column 9\nhelp: mend or drop the row; rows and columns are counted from 0",
        ),
        ("infinity.npy", "`infinity.npy` holds infinity in row 4, column 10"),
        ("cut_off.npy", "`cut_off.npy` is cut off: its header promises 436 bytes, there are 426"),
        ("cut_off.npz", "`cut_off.npz` is no whole zip archive"),
        ("cut_off.safetensors", "`cut_off.safetensors` is cut off: its header promises 508 bytes, there are 498"),
        (
            "three_dimensions.npy",
            "`three_dimensions.npy` has 3 dimensions, [2, 3, 4], expected 2: rows and features\nhelp: pool",
        ),
        ("three_dimensions.safetensors", "tensor `activations` of `three_dimensions.safetensors` has 3 dimensions"),
        ("one_dimension.npy", "`one_dimension.npy` has 1 dimensions"),
        ("empty.npy", "`empty.npy` is empty: its shape is [0, 4]"),
        ("integers.npy", "`integers.npy` holds int64, expected floating point numbers\nhelp: save it as float32"),
        (
            "base_coo.npz",
            "`base_coo.npz` holds a sparse matrix of format `coo`, expected `csr` or `csc`\nhelp: convert",
        ),
        (
            "base_several.npz",
            "`base_several.npz` holds 2 arrays and none is named `activations`\n\
             help: name one with `array`: `layer_16`, `layer_40`",
        ),
        ("csr_outside.npz", "array `indices` of `csr_outside.npz` holds 1"),
        ("csr_torn.npz", "the `indptr` of `csr_torn.npz` does not divide"),
        ("expected.json", "`expected.json` is no file of activations"),
    ] {
        let found = refuse(name);
        assert!(found.starts_with(words), "{name}: {found}");
    }
    let other = Options { array: Some("layer_4".into()), ..Options::default() };
    let error = read_with("base_several.npz", &other).err().unwrap().to_string();
    assert_eq!(error, "`base_several.npz` has no array `layer_4`\nhelp: did you mean `layer_40`?");
    let rows = Options { rows: Some(8), ..Options::default() };
    let error = read_with("narrow.npy", &rows).err().unwrap();
    assert_eq!(error.message, "`narrow.npy` has 5 rows, expected 8");
    for (bytes, words) in [
        (&b""[..], "is empty"),
        (b"\x89HDF\r\n", "is HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"abc", "does not begin as an .npy file does"),
    ] {
        let error = read_activations("x.npy", bytes, &Options::default()).err().unwrap();
        assert!(error.message.starts_with(&format!("`x.npy` {words}")), "{error}");
    }
}

#[test]
fn labels_are_the_same_in_every_format() {
    let expected = expected();
    let table = LabelTable::default();
    let truths: Vec<bool> = expected.labels.iter().map(|label| *label == 1).collect();
    for name in ["int64.npy", "int32.npy", "uint8.npy", "bool.npy", "big.npy", "column.npy"] {
        let name = format!("labels_{name}");
        assert_eq!(read_labels(&name, &content(&name), &table).unwrap().positive(), truths, "{name}");
    }
    for name in ["base_stored.npz", "base_compressed.npz", "base_f4.safetensors"] {
        assert_eq!(read_labels(name, &content(name), &table).unwrap().positive(), truths, "{name}");
    }
    let json = serde_json::to_vec(&expected.words).unwrap();
    let words = read_labels("x.json", &json, &table).unwrap();
    for name in ["labels_text.npy", "labels_bytes.npy"] {
        assert_eq!(read_labels(name, &content(name), &table).unwrap(), words, "{name}");
    }
    assert_eq!(words.positive(), [false, true, true, false, false, true, false]);
    assert_eq!((words.word(3), words.counts()[0]), ("hard_negative", ("aligned", 2)));
    let error = read_labels("wide.npy", &content("wide.npy"), &table).unwrap_err();
    assert!(error.message.contains("expected one dimension"), "{error}");
}

#[test]
fn real_features_and_texts_are_read_of_the_shared_data() {
    let shared = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/probes"));
    if !shared.is_dir() {
        eprintln!("skipped: {} is missing", shared.display());
        return;
    }
    let content = |name: &str| std::fs::read(shared.join(name)).unwrap();
    let train = read_activations("X_train.npy", &content("detector/X_train.npy"), &Options::default()).unwrap();
    assert_eq!((train.facts.rows, train.facts.columns), (850, 32));
    assert!(train.facts.duplicate_rows.is_empty());
    let table = LabelTable::default();
    let labels = read_labels("y_train.npy", &content("detector/y_train.npy"), &table).unwrap();
    check_length("y_train.npy", &labels, "X_train.npy", train.facts.rows).unwrap();
    assert_eq!(labels.counts(), [("1", 300), ("0", 550)]);

    let gold = read_texts("gold_106.json", &content("leakage/gold_106.json")).unwrap();
    let words = gold.iter().map(|text| text.label.as_deref().unwrap());
    let labels = Labels::from_words("gold_106.json", words, &table).unwrap();
    assert_eq!((labels.len(), labels.positive().iter().filter(|truth| **truth).count()), (106, 51));
    assert_eq!(read_labels("gold_106.json", &content("leakage/gold_106.json"), &table).unwrap(), labels);
    let other = read_texts("gold_alt.json", &content("leakage/gold_alt.json")).unwrap();
    assert_eq!(other.iter().filter(|text| text.source.as_deref() == Some("sycophant")).count(), 12);
    assert_eq!((other.len(), other[0].id.as_deref()), (198, Some("464")));
}

/// Up to 70 rows, so that more than one task reads them, with equal rows and negative zeros among them.
fn matrices() -> impl Strategy<Value = (usize, Vec<f32>)> {
    let value = prop_oneof![6 => Just(0.0f32), 1 => Just(-0.0), 1 => -9.0f32..9.0, 1 => Just(1.5)];
    (1usize..7, 1usize..70)
        .prop_flat_map(move |(columns, rows)| (Just(columns), proptest::collection::vec(value.clone(), rows * columns)))
}

/// An .npy file of the values in either order of storage.
fn npy_file(columns: usize, values: &[f32], column_major: bool, wide: bool) -> Vec<u8> {
    let rows = values.len() / columns;
    let (kind, order) = (if wide { "<f8" } else { "<f4" }, if column_major { "True" } else { "False" });
    let header = format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({rows}, {columns}), }}");
    let mut bytes = [npy::MAGIC, &[1, 0, header.len() as u8, 0], header.as_bytes()].concat();
    for place in 0..values.len() {
        let value = values[if column_major { place % rows * columns + place / rows } else { place }];
        if wide {
            bytes.extend_from_slice(&f64::from(value).to_le_bytes());
        } else {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

proptest! {
    #[test]
    fn dense_and_sparse_have_the_same_facts((columns, values) in matrices()) {
        let rows = values.len() / columns;
        let mut sparse = Sparse { starts: vec![0], ..Sparse::default() };
        for row in values.chunks(columns) {
            for (column, value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                sparse.columns.push(column as u32);
                sparse.values.push(f64::from(*value));
            }
            sparse.starts.push(sparse.values.len());
        }
        let sparse = measure("`x`", &Matrix::new(rows, columns, Values::Sparse64(sparse)).unwrap()).unwrap();
        let dense = measure("`x`", &Matrix::new(rows, columns, Values::Dense32(values.clone())).unwrap()).unwrap();
        prop_assert_eq!(&dense.facts, &sparse.facts);
        prop_assert_eq!((&dense.moments, &dense.row_digests), (&sparse.moments, &sparse.row_digests));
        let mut one_by_one = Measuring::new(columns);
        values.chunks(columns).for_each(|row| one_by_one.add(row));
        prop_assert_eq!(&one_by_one.finish("`x`").unwrap(), &dense.facts);
        for (column_major, wide) in [(false, false), (true, false), (true, true)] {
            let file = npy_file(columns, &values, column_major, wide);
            let read = read_activations("x.npy", &file, &Options::default()).unwrap();
            prop_assert_eq!((&read.facts, &read.moments), (&dense.facts, &dense.moments));
            prop_assert_eq!(read.matrix.is_sparse(), read.facts.density < 0.3);
        }
        for (row, digest) in dense.row_digests.iter().enumerate() {
            let equal = |other: usize| (0..columns).all(|j| values[row * columns + j] == values[other * columns + j]);
            prop_assert!((0..rows).all(|other| (dense.row_digests[other] == *digest) == equal(other)));
        }
        let constant = (0..columns).filter(|j| values.chunks(columns).all(|row| row[*j] == values[*j])).count();
        prop_assert_eq!(dense.facts.columns_constant, constant);
    }

    #[test]
    fn threads_change_nothing((columns, values) in matrices()) {
        let matrix = Matrix::new(values.len() / columns, columns, Values::Dense32(values)).unwrap();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| measure("`x`", &matrix).unwrap())
        };
        let (one, three) = (with(1), with(3));
        prop_assert_eq!(one.facts, three.facts);
        prop_assert_eq!(one.moments, three.moments);
    }
}
