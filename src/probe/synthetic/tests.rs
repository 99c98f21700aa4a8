//! Rules of the made-up activations: sizes, exactness, density, batch effect, signal, leaks.

use super::*;
use proptest::prelude::*;

fn small() -> SynthesisOptions {
    SynthesisOptions { columns: 512, ..SynthesisOptions::default() }.scaled(0.2)
}

fn values(source: &Source) -> &Sparse<f32> {
    let Values::Sparse32(sparse) = source.activations.values() else { panic!("made-up rows are sparse f32") };
    sparse
}

fn density(source: &Source) -> f64 {
    values(source).values.len() as f64 / (source.labels.len() * source.activations.columns()) as f64
}

fn mean_active(source: &Source) -> f64 {
    values(source).values.iter().map(|value| f64::from(*value)).sum::<f64>() / values(source).values.len() as f64
}

/// Per feature how many rows of a class have it active, as a share.
fn activity(source: &Source, class: bool) -> Vec<f64> {
    let mut active = vec![0.0; source.activations.columns()];
    let rows: Vec<usize> = (0..source.labels.len()).filter(|row| source.labels[*row] == class).collect();
    rows.iter().for_each(|row| source.activations.for_each(*row, |column, _| active[column] += 1.0));
    active.into_iter().map(|count| count / rows.len() as f64).collect()
}

fn auroc(source: &Source, weights: &[f64]) -> f64 {
    let score = |row| {
        let mut sum = 0.0;
        source.activations.for_each(row, |column, _| sum += weights[column]);
        sum
    };
    let (mut won, mut pairs) = (0.0, 0.0);
    for positive in (0..source.labels.len()).filter(|row| source.labels[*row]) {
        for negative in (0..source.labels.len()).filter(|row| !source.labels[*row]) {
            won += if score(positive) > score(negative) { 1.0 } else { 0.0 };
            pairs += 1.0;
        }
    }
    won / pairs
}

#[test]
fn the_default_is_the_real_experiment() {
    let sizes: Vec<(String, usize, usize)> =
        SynthesisOptions::default().sources.into_iter().map(|s| (s.name, s.rows, s.positives)).collect();
    let expected = [
        ("train", 2689, 1057),
        ("gold_106", 106, 51),
        ("sycophant", 319, 319),
        ("model_organism", 730, 730),
        ("benchmark", 2330, 1165),
    ];
    assert_eq!(sizes, expected.map(|(name, rows, positives)| (name.to_string(), rows, positives)));
    let counts = Leak::of_the_experiment().counts(2689);
    assert_eq!(counts, [(Noise::Light, 73), (Noise::Medium, 152), (Noise::Heavy, 134)]);
}

#[test]
fn sources_have_the_sizes_and_values_that_were_asked_for() {
    let options = small();
    let made = synthesize(&options).unwrap();
    assert_eq!(made.sources.len(), 5);
    for (source, asked) in made.sources.iter().zip(&options.sources) {
        assert_eq!((&source.name, source.labels.len()), (&asked.name, asked.rows));
        assert_eq!((source.activations.rows(), source.activations.columns()), (asked.rows, 512));
        assert_eq!(source.labels.iter().filter(|label| **label).count(), asked.positives);
        assert!(values(source).values.iter().all(|v| *v > 0.0 && v.is_finite() && v.to_bits() & 0xFFFF == 0));
    }
    let groups: Vec<u32> = made.sources.iter().flat_map(|source| source.groups.clone()).collect();
    assert_eq!(groups, (0..groups.len() as u32).collect::<Vec<_>>());
}

#[test]
fn density_magnitude_and_dead_features_are_those_of_the_real_files() {
    let made = synthesize(&SynthesisOptions { columns: 4096, seed: 3, ..small() }).unwrap();
    for source in &made.sources {
        let (expected_density, expected_mean) =
            if ["train", "gold_106"].contains(&&*source.name) { (0.226, 300.0) } else { (0.052, 30.0) };
        assert!((density(source) / expected_density - 1.0).abs() < 0.08, "{} {}", source.name, density(source));
        assert!((mean_active(source) / expected_mean - 1.0).abs() < 0.08, "{} {}", source.name, mean_active(source));
    }
    let mut active = vec![false; 4096];
    made.sources.iter().for_each(|source| values(source).columns.iter().for_each(|c| active[*c as usize] = true));
    let never = active.iter().filter(|active| !**active).count();
    assert!((123..143).contains(&never), "{never} features are never active, 123 cannot be");
}

#[test]
fn without_the_batch_effect_sources_are_alike() {
    let with = synthesize(&small()).unwrap();
    let without = synthesize(&SynthesisOptions { batch_effect: false, ..small() }).unwrap();
    let ratio = |made: &Sources, of: fn(&Source) -> f64| of(&made.sources[0]) / of(&made.sources[4]);
    assert!(ratio(&with, density) > 3.5 && ratio(&with, mean_active) > 7.0);
    assert!((ratio(&without, density) - 1.0).abs() < 0.15 && (ratio(&without, mean_active) - 1.0).abs() < 0.15);
    assert_eq!(with.sources[0], without.sources[0]);
}

#[test]
fn a_source_may_be_kept_from_telling_the_label() {
    let made = synthesize(&SynthesisOptions { source_equals_label: false, ..small() }).unwrap();
    for source in &made.sources {
        let positives = source.labels.iter().filter(|label| **label).count();
        assert!(positives > 0 && positives < source.labels.len(), "{}", source.name);
    }
}

#[test]
fn classes_differ_along_the_saved_direction() {
    let made = synthesize(&small()).unwrap();
    for source in [&made.sources[0], &made.sources[4]] {
        let (positive, negative) = (activity(source, true), activity(source, false));
        let agree = (0..512)
            .filter(|column| source.direction[*column].abs() > 2.0)
            .map(|column| f64::from(u8::from((positive[column] - negative[column]) * source.direction[column] > 0.0)));
        let agree: Vec<f64> = agree.collect();
        assert!(agree.len() >= 20 && agree.iter().sum::<f64>() > 0.9 * agree.len() as f64, "{agree:?}");
    }
    let shared: Vec<usize> = (0..512).filter(|column| made.shared[*column] != 0.0).collect();
    assert_eq!(shared.len(), 40);
    assert!(shared.iter().all(|column| made.sources[0].direction[*column] == made.shared[*column]));
}

#[test]
fn what_train_teaches_holds_for_gold_and_not_for_the_benchmark() {
    let difference = |options: &SynthesisOptions| {
        let made = synthesize(options).unwrap();
        let (positive, negative) = (activity(&made.sources[0], true), activity(&made.sources[0], false));
        let weights: Vec<f64> = positive.iter().zip(&negative).map(|(one, other)| one - other).collect();
        (auroc(&made.sources[1], &weights), auroc(&made.sources[4], &weights))
    };
    let (gold, benchmark) = difference(&small().scaled_gold());
    assert!(gold > 0.9 && benchmark < 0.75, "gold {gold}, benchmark {benchmark}");
    let (gold, _) = difference(&SynthesisOptions { strength: 0.0, ..small().scaled_gold() });
    assert!((gold - 0.5).abs() < 0.17, "gold {gold} without a signal");
}

impl SynthesisOptions {
    /// All of gold beside the small rest, since few rows make an uncertain AUROC.
    fn scaled_gold(mut self) -> Self {
        self.sources[1] = SynthesisOptions::default().sources[1].clone();
        self
    }
}

#[test]
fn leaked_rows_are_near_their_parents_and_share_their_label_and_group() {
    let options = SynthesisOptions { leak: Some(Leak::of_the_experiment()), ..small() };
    let made = synthesize(&options).unwrap();
    let (train, gold) = (&made.sources[0], &made.sources[1]);
    assert_eq!(train.labels.iter().filter(|label| **label).count(), options.sources[0].positives);
    let dense = |source: &Source, row: usize| {
        let mut dense = vec![0.0; 512];
        source.activations.for_each(row, |column, value| dense[column] = value);
        dense
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = |a: &[f64], b: &[f64]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let mut cosines = [const { Vec::new() }; 4];
    for (row, parent) in train.parents.iter().enumerate() {
        let Some(Parent { row: from, noise }) = *parent else {
            cosines[3].push(cosine(&dense(train, row), &dense(gold, 0)));
            continue;
        };
        assert_eq!(train.labels[row], gold.labels[from as usize]);
        assert_eq!(train.groups[row], gold.groups[from as usize]);
        cosines[noise as usize].push(cosine(&dense(train, row), &dense(gold, from as usize)));
    }
    assert_eq!(cosines.each_ref().map(Vec::len), [15, 30, 27, 538 - 72]);
    let means = cosines.map(|all| all.iter().sum::<f64>() / all.len() as f64);
    assert!(means[0] > 0.95 && means.windows(2).all(|pair| pair[0] > pair[1] + 0.03), "{means:?}");
    let without = synthesize(&small()).unwrap();
    assert_eq!(without.sources[1..], made.sources[1..]);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let refused = |change: &dyn Fn(&mut SynthesisOptions)| {
        let mut options = small();
        change(&mut options);
        synthesize(&options).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&|o| o.leak = Some(Leak { from: "gold".into(), ..Leak::of_the_experiment() })),
        "the leak names a source `gold` that is not made\n\
         help: name one of train, gold_106, sycophant, model_organism, benchmark"
    );
    assert!(refused(&|o| o.leak = Some(Leak { light: 1.5, ..Leak::of_the_experiment() })).starts_with("shares [1.5,"));
    assert!(
        refused(&|o| {
            o.leak = Some(Leak::of_the_experiment());
            o.sources[0].positives = 0;
        })
        .starts_with("the rows that leak into `train`")
    );
    assert!(refused(&|o| o.sources[1].name = "train".into()).starts_with("two sources are called `train`"));
    assert!(refused(&|o| o.sources[1].positives = 5000).starts_with("source `gold_106` has 5000 positive rows of 21"));
    assert!(refused(&|o| o.columns = 10).starts_with("10 features are too few"));
    assert!(refused(&|o| o.signal_features = 400).starts_with("`signal_features` is 400 of 512"));
    assert!(refused(&|o| o.strength = f64::NAN).starts_with("`strength` is NaN"));
    assert!(refused(&|o| o.sources.clear()).starts_with("there are no sources"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn equal_seeds_give_equal_rows_on_any_number_of_threads(seed: u64, threads in 1usize..5) {
        let narrow = SynthesisOptions { columns: 64, signal_features: 8, seed, ..SynthesisOptions::default() };
        let mut options = narrow.scaled(0.05);
        options.leak = Some(Leak::of_the_experiment());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let made = synthesize(&options).unwrap();
        prop_assert_eq!(&made, &pool.install(|| synthesize(&options)).unwrap());
        options.seed = seed.wrapping_add(1);
        prop_assert_ne!(&made.sources[0].activations, &synthesize(&options).unwrap().sources[0].activations);
    }
}
