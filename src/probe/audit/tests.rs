//! Every defect that is planted is found, and nothing is found where nothing is.

use super::*;
use crate::data::random::Random;
use crate::probe::matrix::{Sparse, Values};

const COLUMNS: usize = 600;

/// A world of rows: each has a topic that decides which features are likely, and a label that a few features show.
struct World {
    random: Random,
    columns: usize,
    /// Scale of each column's values.
    scales: Vec<f64>,
    /// Chance of each column to be active, by topic.
    chances: Vec<Vec<f64>>,
}

type Row = Vec<(u32, f64)>;

impl World {
    fn new(seed: u64, columns: usize, density: f64) -> Self {
        let mut random = Random::new(seed);
        let scales = (0..columns).map(|_| 300.0 * (0.8 * random.normal()).exp()).collect();
        let base: Vec<f64> = (0..columns).map(|_| (density / (1.0 - density)).ln() + 1.5 * random.normal()).collect();
        let mut topic = || base.iter().map(|base| 1.0 / (1.0 + (-base - 0.7 * random.normal()).exp())).collect();
        let chances = (0..8).map(|_| topic()).collect();
        World { random, columns, scales, chances }
    }
    fn row(&mut self, label: bool) -> Row {
        let topic = self.random.below(self.chances.len());
        let mut row = Vec::new();
        for column in 0..self.columns {
            // Twenty columns know the label somewhat.
            let shown = if column % (self.columns / 20) == 0 && label { 1.6 } else { 1.0 };
            if self.random.chance((shown * self.chances[topic][column]).min(0.95)) {
                row.push((column as u32, self.scales[column] * (0.6 * self.random.normal()).exp()));
            }
        }
        row
    }
    fn labels(&mut self, rows: usize) -> Vec<bool> {
        (0..rows).map(|_| self.random.chance(0.4)).collect()
    }
    fn rows(&mut self, labels: &[bool]) -> Vec<Row> {
        labels.iter().map(|label| self.row(*label)).collect()
    }
    /// A copy with other values, fewer features and some strange ones.
    fn copy(&mut self, row: &Row, spread: f64, lost: f64) -> Row {
        let mut copy: Row = Vec::new();
        for (column, value) in row {
            if !self.random.chance(lost) {
                copy.push((*column, value * (spread * self.random.normal()).exp()));
            }
        }
        let strange = self.row(false);
        let share = lost * row.len() as f64 / strange.len() as f64;
        copy.extend(strange.into_iter().filter(|_| self.random.chance(share)));
        copy.sort_by_key(|(column, _)| *column);
        copy.dedup_by_key(|(column, _)| *column);
        copy
    }
}

fn matrix(rows: &[Row], columns: usize) -> Matrix {
    let mut sparse = Sparse { starts: vec![0], columns: Vec::new(), values: Vec::new() };
    for row in rows {
        sparse.columns.extend(row.iter().map(|(column, _)| *column));
        sparse.values.extend(row.iter().map(|(_, value)| *value as f32));
        sparse.starts.push(sparse.columns.len());
    }
    Matrix::new(rows.len(), columns, Values::Sparse32(sparse)).unwrap()
}

/// Training rows of two sources and an evaluation set, all of one world.
struct Case {
    names: [&'static str; 3],
    rows: [Vec<Row>; 3],
    labels: [Vec<bool>; 3],
    world: World,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, COLUMNS, 0.2);
        let labels = [150, 90, 60].map(|rows| world.labels(rows));
        let rows = [0, 1, 2].map(|source| world.rows(&labels[source]));
        Case { names: ["base", "extra", "gold"], rows, labels, world }
    }
    fn audit(&self) -> Audit {
        let matrices: Vec<Matrix> = self.rows.iter().map(|rows| matrix(rows, COLUMNS)).collect();
        let all: Vec<usize> = (0..200).collect();
        let source = |number: usize| {
            let rows = &all[..self.rows[number].len()];
            let (training, evaluation) = if number < 2 { (rows, &rows[..0]) } else { (&rows[..0], rows) };
            Source {
                name: self.names[number],
                matrix: Some(&matrices[number]),
                labels: Some(&self.labels[number]),
                training,
                evaluation,
                ..Source::default()
            }
        };
        audit(&[source(0), source(1), source(2)], &Options::default()).unwrap()
    }
}

fn kinds(audit: &Audit) -> Vec<Kind> {
    audit.findings.iter().map(|finding| finding.kind).collect()
}

fn numbers(finding: &Finding) -> Vec<usize> {
    finding.rows.iter().map(|place| place.row).collect()
}

/// A source of rows that have only what the field says.
fn bare<'a>(name: &'a str, training: &'a [usize], evaluation: &'a [usize]) -> Source<'a> {
    Source { name, training, evaluation, ..Source::default() }
}

fn sentences(seed: u64, rows: usize) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut words = |count: usize| -> String { (0..count).map(|_| format!("Word{} ", random.below(5000))).collect() };
    (0..rows).map(|_| words(60)).collect()
}

#[test]
fn clean_sources_have_no_finding() {
    for seed in 0..10 {
        let audit = Case::new(seed).audit();
        assert!(audit.findings.is_empty(), "seed {seed}: {}", audit.text());
        assert_eq!((audit.training, audit.evaluation, audit.shift.len()), (240, 60, 3));
        audit.refuse().unwrap();
    }
}

#[test]
fn exact_copies_are_found_on_both_sides_and_within_training() {
    let mut case = Case::new(1);
    case.rows[0][17] = case.rows[2][5].clone();
    case.labels[0][17] = case.labels[2][5];
    case.rows[1][80] = case.rows[0][3].clone();
    case.labels[1][80] = case.labels[0][3];
    let audit = case.audit();
    assert_eq!(kinds(&audit), [Kind::ExactDuplicates, Kind::DuplicatesInTraining]);
    let [across, within] = &audit.findings[..] else { panic!() };
    assert_eq!((across.severity, within.severity), (Severity::Severe, Severity::Warning));
    assert_eq!((across.pairs[0].training.row, across.pairs[0].other.row), (17, 5));
    assert_eq!((within.pairs[0].training.source.as_str(), within.pairs[0].other.row), ("extra", 3));
    let error = audit.refuse().unwrap_err();
    assert!(error.message.contains("1 of the 150 training rows of `base` is exactly a row"), "{error}");
    assert!(error.help.is_some());
}

#[test]
fn one_value_of_difference_is_no_exact_copy() {
    let mut case = Case::new(1);
    case.rows[0][17] = case.rows[2][5].clone();
    case.rows[0][17][0].1 += 1.0;
    case.labels[0][17] = case.labels[2][5];
    assert_eq!(kinds(&case.audit()), [Kind::NearDuplicates]);
}

#[test]
fn near_copies_are_found_at_every_strength_and_nothing_else_is() {
    for (seed, (spread, lost)) in [(0.1, 0.05), (0.3, 0.15), (0.5, 0.3)].into_iter().enumerate() {
        let mut case = Case::new(20 + seed as u64);
        let planted: Vec<usize> = (0..20).map(|n| 7 * n).collect();
        for row in &planted {
            case.rows[0][*row] = case.world.copy(&case.rows[2][row % 60], spread, lost);
            case.labels[0][*row] = case.labels[2][row % 60];
        }
        let audit = case.audit();
        assert_eq!(kinds(&audit), [Kind::NearDuplicates], "{}", audit.text());
        assert_eq!(numbers(&audit.findings[0]), planted);
        assert!(audit.findings[0].pairs.iter().all(|pair| pair.other.row == pair.training.row % 60));
    }
}

#[test]
fn a_source_that_is_copies_only_is_found_whole() {
    let mut case = Case::new(12);
    for row in 0..90 {
        case.rows[1][row] = case.world.copy(&case.rows[2][row % 60], 0.3, 0.15);
        case.labels[1][row] = case.labels[2][row % 60];
    }
    let audit = case.audit();
    assert_eq!(kinds(&audit)[0], Kind::NearDuplicates, "{}", audit.text());
    assert_eq!(numbers(&audit.findings[0]), (0..90).collect::<Vec<_>>());
}

#[test]
fn rows_that_share_a_topic_are_no_copies() {
    // Half of what a row shows is decided by one of three topics.
    let mut case = Case::new(13);
    case.world.chances.truncate(3);
    for chance in case.world.chances.iter_mut().flatten() {
        *chance = if *chance > 0.2 { 0.9 } else { *chance / 4.0 };
    }
    let labels = case.labels.clone();
    case.rows = labels.map(|labels| case.world.rows(&labels));
    let audit = case.audit();
    assert!(audit.findings.is_empty(), "{}", audit.text());
    case.rows[0][4] = case.world.copy(&case.rows[2][5], 0.1, 0.05);
    case.labels[0][4] = case.labels[2][5];
    assert_eq!((kinds(&case.audit()), numbers(&case.audit().findings[0])), (vec![Kind::NearDuplicates], vec![4]));
}

#[test]
fn copies_with_another_label_are_conflicts() {
    let mut case = Case::new(3);
    case.rows[0][9] = case.world.copy(&case.rows[2][5], 0.1, 0.05);
    case.labels[0][9] = !case.labels[2][5];
    case.rows[1][8] = case.rows[0][7].clone();
    case.labels[1][8] = !case.labels[0][7];
    let audit = case.audit();
    assert_eq!(kinds(&audit), [Kind::NearDuplicates, Kind::LabelConflicts, Kind::DuplicatesInTraining]);
    let conflicts = &audit.findings[1];
    assert_eq!((conflicts.severity, numbers(conflicts)), (Severity::Severe, vec![9, 8]));
}

#[test]
fn the_same_row_in_both_roles_is_severe() {
    let labels = Case::new(0).labels[0].clone();
    let source = Source { labels: Some(&labels), ..bare("base", &[0, 1, 2, 3], &[3, 4, 2]) };
    let audit = audit(&[source], &Options::default()).unwrap();
    assert_eq!(kinds(&audit)[0], Kind::RowsInBothRoles);
    assert_eq!(numbers(&audit.findings[0]), [2, 3]);
}

#[test]
fn a_group_on_both_sides_is_severe_and_an_empty_name_is_no_group() {
    let of = |names: &[&str]| -> Vec<String> { names.iter().map(|name| name.to_string()).collect() };
    let (groups, others) = (of(&["a", "b", "", "b"]), of(&["c", "", "b"]));
    let training = Source { groups: Some(&groups), ..bare("base", &[0, 1, 2, 3], &[]) };
    let evaluation = |rows: &'static [usize]| Source { groups: Some(&others), ..bare("gold", &[], rows) };
    let found = audit(&[training, evaluation(&[0, 1, 2])], &Options::default()).unwrap();
    assert_eq!((kinds(&found), numbers(&found.findings[0])), (vec![Kind::SharedGroups], vec![1, 3]));
    let found = audit(&[training, evaluation(&[0, 1])], &Options::default()).unwrap();
    assert!(found.findings.is_empty());
}

#[test]
fn a_source_of_one_class_is_severe_where_features_tell_the_source() {
    let mut case = Case::new(4);
    case.labels[1].fill(true);
    // Drawn from the same world, the source cannot be told, and the label can not be told from it.
    let rows = case.labels[1].clone();
    case.rows[1] = case.world.rows(&rows);
    let audit = case.audit();
    assert_eq!(kinds(&audit), [Kind::SourceEqualsLabel]);
    assert_eq!(audit.findings[0].severity, Severity::Warning);
    // A stamp on half of its columns gives the source away.
    for row in &mut case.rows[1] {
        row.iter_mut().filter(|(column, _)| column % 2 == 0).for_each(|(_, value)| *value *= 6.0);
    }
    let audit = case.audit();
    assert_eq!(kinds(&audit)[0], Kind::SourceEqualsLabel);
    assert_eq!(audit.findings[0].severity, Severity::Severe);
}

#[test]
fn evaluation_rows_of_one_class_are_noted_and_a_pool_of_one_class_is_severe() {
    let mut case = Case::new(5);
    case.labels[2].fill(false);
    let audit = case.audit();
    assert_eq!((kinds(&audit), audit.findings[0].severity), (vec![Kind::OneClass], Severity::Note));
    let mut case = Case::new(5);
    case.labels[0].fill(true);
    case.labels[1].fill(true);
    let audit = case.audit();
    assert_eq!((kinds(&audit), audit.findings[0].severity), (vec![Kind::OneClass], Severity::Severe));
}

#[test]
fn sorted_and_blocked_labels_are_found() {
    let rows: Vec<usize> = (0..120).collect();
    let order = |label: fn(usize) -> bool| {
        let labels: Vec<bool> = rows.iter().map(|row| label(*row)).collect();
        kinds(&audit(&[Source { labels: Some(&labels), ..bare("base", &rows, &[]) }], &Options::default()).unwrap())
    };
    assert_eq!(order(|row| row < 50), [Kind::OrderEqualsLabel]);
    assert_eq!(order(|row| row / 10 % 2 == 0), [Kind::OrderEqualsLabel]);
    // Pairs of opposites are a good order.
    assert!(order(|row| row % 2 == 0).is_empty());
}

#[test]
fn columns_that_are_no_features_are_found() {
    let mut case = Case::new(6);
    let set = |rows: &mut [Row], column: u32, value: &dyn Fn(usize) -> f64| {
        for (number, row) in rows.iter_mut().enumerate() {
            row.retain(|(found, _)| *found != column);
            row.push((column, value(number)));
            row.retain(|(_, value)| *value != 0.0);
            row.sort_by_key(|(column, _)| *column);
        }
    };
    let labels = case.labels.clone();
    for (source, rows) in case.rows.iter_mut().enumerate() {
        set(rows, 11, &|_| 2.5);
        set(rows, 12, &|row| 0.5 + f64::from(u8::from(labels[source][row])));
        if source != 1 {
            set(rows, 13, &|_| 0.0);
        } else {
            set(rows, 13, &|row| 1.0 + (row % 3) as f64);
            set(rows, 14, &|row| row as f64);
        }
    }
    let audit = case.audit();
    let found: Vec<(Kind, &[usize])> =
        audit.findings.iter().map(|finding| (finding.kind, finding.columns.as_slice())).collect();
    let expected: [(Kind, &[usize]); 4] = [
        (Kind::ColumnEqualsLabel, &[12]),
        (Kind::ColumnEqualsSource, &[13]),
        (Kind::IdentifierColumns, &[14]),
        (Kind::ConstantColumns, &[11]),
    ];
    assert_eq!(found, expected, "{}", audit.text());
}

#[test]
fn rows_without_features_are_no_copies_of_each_other() {
    let mut case = Case::new(7);
    case.rows[0][3].clear();
    case.rows[2][4].clear();
    let audit = case.audit();
    assert_eq!((kinds(&audit), numbers(&audit.findings[0])), (vec![Kind::EmptyRows], vec![3, 4]));
}

#[test]
fn a_source_from_another_extractor_is_a_shift() {
    let mut case = Case::new(8);
    let mut other = World::new(99, COLUMNS, 0.04);
    let labels = case.labels[2].clone();
    case.rows[2] = other.rows(&labels);
    for (_, value) in case.rows[2].iter_mut().flatten() {
        *value /= 10.0;
    }
    let audit = case.audit();
    assert_eq!(kinds(&audit), [Kind::Shift], "{}", audit.text());
    let shift = &audit.shift[2];
    assert!(shift.density_ratio.unwrap() < 0.5 && shift.correlation.unwrap() < 0.5);
    assert!(shift.domain_auroc.unwrap() > 0.95 && (0.05..0.2).contains(&shift.activation_ratio.unwrap()));
}

#[test]
fn similar_texts_are_found_and_what_all_texts_say_is_not() {
    let (mut training, evaluation) = (sentences(1, 40), sentences(2, 30));
    let form = "please answer the following question as well and as briefly as you can ";
    let with_form = |texts: &[String]| -> Vec<String> { texts.iter().map(|text| format!("{form}{text}")).collect() };
    // Half of a text, in other letters and other white space.
    let half: Vec<&str> = evaluation[7].split(' ').take(30).collect();
    training[3] = format!("{} {}", half.join(" \n").to_uppercase(), sentences(3, 1)[0]);
    training[9] = format!("{} unheard", training[8]);
    let rows: Vec<usize> = (0..40).collect();
    let of = |training: &[String], evaluation: &[String]| {
        let sources = [
            Source { texts: Some(training), ..bare("base", &rows, &[]) },
            Source { texts: Some(evaluation), ..bare("gold", &[], &rows[..30]) },
        ];
        audit(&sources, &Options::default()).unwrap()
    };
    for found in [of(&training, &evaluation), of(&with_form(&training), &with_form(&evaluation))] {
        assert_eq!(kinds(&found), [Kind::SimilarTexts, Kind::SimilarTextsInTraining], "{}", found.text());
        assert_eq!((numbers(&found.findings[0]), found.findings[0].pairs[0].other.row), (vec![3], 7));
        assert_eq!((numbers(&found.findings[1]), found.findings[1].pairs[0].other.row), (vec![9], 8));
        // 30 of 60 words: 23 of 53 shingles.
        assert!((found.findings[0].pairs[0].score - 23.0 / 53.0).abs() < 0.1);
    }
}

#[test]
fn short_texts_are_similar_when_they_are_equal() {
    let of = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| text.to_string()).collect() };
    let (training, evaluation) = (of(&["Yes", "no", "", "no way"]), of(&["yes ", "maybe", ""]));
    let sources = [
        Source { texts: Some(&training), ..bare("base", &[0, 1, 2, 3], &[]) },
        Source { texts: Some(&evaluation), ..bare("gold", &[], &[0, 1, 2]) },
    ];
    let found = audit(&sources, &Options::default()).unwrap();
    assert_eq!((kinds(&found), numbers(&found.findings[0])), (vec![Kind::SimilarTexts], vec![0]));
}

#[test]
fn dense_and_sparse_features_give_the_same_audit() {
    let mut case = Case::new(9);
    case.rows[0][2] = case.world.copy(&case.rows[2][1], 0.3, 0.15);
    let of = |dense: bool| {
        let matrices: Vec<Matrix> = case
            .rows
            .iter()
            .map(|rows| {
                let sparse = matrix(rows, COLUMNS);
                let mut values = vec![0f32; rows.len() * COLUMNS];
                for row in 0..rows.len() {
                    sparse.for_each(row, |column, value| values[row * COLUMNS + column] = value as f32);
                }
                if dense { Matrix::new(rows.len(), COLUMNS, Values::Dense32(values)).unwrap() } else { sparse }
            })
            .collect();
        let rows: Vec<usize> = (0..150).collect();
        let sources = [
            Source { matrix: Some(&matrices[0]), ..bare("base", &rows, &[]) },
            Source { matrix: Some(&matrices[2]), ..bare("gold", &[], &rows[..60]) },
        ];
        audit(&sources, &Options::default()).unwrap()
    };
    let (dense, sparse) = (of(true), of(false));
    assert_eq!(kinds(&dense), [Kind::NearDuplicates]);
    assert_eq!(dense, sparse);
}

#[test]
fn an_audit_is_the_same_on_any_number_of_threads() {
    let mut case = Case::new(10);
    case.rows[0][2] = case.world.copy(&case.rows[2][1], 0.3, 0.15);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        serde_json::to_string(&pool.install(|| case.audit())).unwrap()
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn sources_that_do_not_fit_together_are_refused() {
    let (five, six) = (vec![true; 5], vec![String::new(); 6]);
    let refuse = |sources: &[Source<'_>]| audit(sources, &Options::default()).unwrap_err().message;
    let labels = Source { labels: Some(&five), ..bare("base", &[], &[]) };
    assert!(refuse(&[]).contains("no sources"));
    assert!(refuse(&[labels, labels]).contains("two sources are named `base`"));
    assert!(refuse(&[Source { texts: Some(&six), ..labels }]).contains("5 rows of labels and 6 of texts"));
    assert!(refuse(&[Source { training: &[5], ..labels }]).contains("row 5"));
    assert!(refuse(&[bare("base", &[], &[])]).contains("neither"));
    let (a, b) = (matrix(&[vec![(0, 1.0)]], 2), matrix(&[vec![(0, 1.0)]], 3));
    let of = |name, matrix| Source { matrix: Some(matrix), ..bare(name, &[0], &[]) };
    assert!(refuse(&[of("a", &a), of("b", &b)]).contains("2 features"));
    let infinite = matrix(&[vec![(0, f64::INFINITY)]], 2);
    assert!(refuse(&[of("a", &infinite)]).contains("not a finite number"));
    let wrong = Options { containment: 0.0, ..Options::default() };
    assert!(audit(&[labels], &wrong).unwrap_err().message.contains("`containment` is 0"));
}

#[test]
fn the_text_of_an_audit_is_read_worst_first() {
    let mut case = Case::new(11);
    case.labels[2].fill(false);
    for row in 0..3 {
        case.rows[0][10 * row] = case.world.copy(&case.rows[2][row], 0.2, 0.1);
        case.labels[0][10 * row] = case.labels[2][row];
    }
    case.rows[1][8] = case.rows[0][7].clone();
    case.labels[1][8] = !case.labels[0][7];
    insta::assert_snapshot!(case.audit().text(), @r"
    audit of 240 training rows and 60 evaluation rows in 3 sources: 2 severe, 1 warning, 1 note
    severe   3 of the 150 training rows of `base` are nearly a row that `gold` is evaluated on: cosine
             of centred features 0.83 to 0.89, the next has 0.20; labels agree in 3 of 3 pairs
             0.89  `base` row 10 (label 0) ~ `gold` row 1 (label 0)
             0.84  `base` row 0 (label 0) ~ `gold` row 0 (label 0)
             help: remove these training rows, or keep each family of copies on one side by giving it a group
    severe   1 training row has a copy or near copy with the other label
             1.00  `extra` row 8 (label 1) ~ `base` row 7 (label 0)
             help: look at these pairs and correct or remove the rows with the wrong label
    warning  1 of the 240 training rows repeats an earlier one exactly
             1.00  `extra` row 8 (label 1) ~ `base` row 7 (label 0)
    note     all 60 evaluation rows of `gold` have label 0: AUROC is undefined there
    shift of each source beside the training rows of the others
      source    rows    active/row   mean active  correlation  domain AUROC  dead here
      base       150        x 1.01        x 1.00         0.97          0.45      0.5 %
      extra       90        x 0.99        x 1.00         0.97          0.45      1.2 %
      gold        60        x 1.00        x 1.03         0.97          0.62      3.3 %
    ");
}

/// `gold_alt.json` and `gold_106.json`: texts, and labels as the experiment maps them.
fn shared_texts(name: &str) -> Option<(Vec<String>, Vec<bool>, Vec<String>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/probes/leakage");
    let Ok(file) = std::fs::read_to_string(folder.join(name)) else {
        eprintln!("skipped: {} is not there", folder.join(name).display());
        return None;
    };
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    let samples = file["samples"].as_array().unwrap();
    let field = |field: &str| -> Vec<String> {
        samples.iter().map(|sample| sample[field].as_str().unwrap_or_default().to_string()).collect()
    };
    let labels = field("label").iter().map(|label| label.ends_with("faking")).collect();
    Some((field("text"), labels, field("source")))
}

#[test]
fn the_eighteen_leaked_rows_are_found_of_the_shared_data() {
    let (Some((gold, gold_labels, _)), Some((texts, labels, origins))) =
        (shared_texts("gold_106.json"), shared_texts("gold_alt.json"))
    else {
        return;
    };
    // The rows that Python's sets of 8-word tuples give, lower case, split at white space.
    let leaked = [2, 12, 20, 21, 42, 58, 74, 90, 95, 98, 105, 111, 118, 121, 128, 137, 161, 190];
    let all: Vec<usize> = (0..198).collect();
    let names = ["train", "sycophant", "model_organism", "benchmark"];
    let rows = names.map(|name| all.iter().copied().filter(|row| origins[*row] == name).collect::<Vec<usize>>());
    let alternative = |n: usize| Source { texts: Some(&texts), labels: Some(&labels), ..bare(names[n], &rows[n], &[]) };
    let gold = Source { texts: Some(&gold), labels: Some(&gold_labels), ..bare("gold_106", &[], &all[..106]) };
    let sources = [alternative(0), alternative(1), alternative(2), alternative(3), gold];
    for containment in [0.02, 0.2, 0.45] {
        let audit = audit(&sources, &Options { containment, pairs: 18, ..Options::default() }).unwrap();
        let found = &audit.findings[0];
        assert_eq!((found.kind, found.severity), (Kind::SimilarTexts, Severity::Severe));
        assert_eq!(numbers(found), leaked);
        assert!(found.message.starts_with("18 of the 106 training rows of `train` share"));
        assert_eq!(kinds(&audit).iter().filter(|kind| **kind == Kind::SimilarTexts).count(), 1);
        assert!(
            found.message.contains("0.48 to 0.87, the next has 0.0091; labels agree in 18 of 18 pairs"),
            "{}",
            found.message
        );
        let best = &found.pairs[0];
        assert_eq!((best.training.row, best.other.row), (128, 62));
        assert!(!kinds(&audit).contains(&Kind::LabelConflicts));
    }
}

/// The rows of a small file of eight-byte floats in row order.
fn shared_matrix(name: &str, columns: usize) -> Option<Matrix> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/probes/detector").join(name);
    let Ok(bytes) = std::fs::read(&file) else {
        eprintln!("skipped: {} is not there", file.display());
        return None;
    };
    let values = bytes[128..].chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()));
    let values: Vec<f64> = values.collect();
    Some(Matrix::new(values.len() / columns, columns, Values::Dense64(values)).unwrap())
}

#[test]
fn few_and_correlated_columns_make_no_copies_of_the_shared_data() {
    let (Some(train), Some(test)) = (shared_matrix("X_train.npy", 32), shared_matrix("X_test.npy", 32)) else { return };
    let rows: Vec<usize> = (0..850).collect();
    let sources = [
        Source { matrix: Some(&train), ..bare("train", &rows, &[]) },
        Source { matrix: Some(&test), ..bare("gold_106", &[], &rows[..106]) },
    ];
    let audit = audit(&sources, &Options::default()).unwrap();
    // The folder's description says that no row is there twice.
    assert!(!kinds(&audit).iter().any(|kind| *kind < Kind::SharedGroups), "{}", audit.text());
}
