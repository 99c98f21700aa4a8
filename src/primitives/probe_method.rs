//! How probes are fitted and checked: `logistic`, `logistic_linfa`, `difference_of_means`, `lda`; penalties; folds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Result, ensure};
use crate::handle;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType};

/// What a probe is fitted with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// Logistic regression with an L2 penalty, at the exact optimum.
    Logistic {
        /// Inverse strength of the penalty.
        c: f64,
    },
    /// Logistic regression with an L1 or elastic net penalty.
    SparseLogistic {
        /// Inverse strength of the penalty.
        c: f64,
        /// Share of L1.
        l1_share: f64,
    },
    /// linfa's own logistic regression.
    Linfa {
        /// Inverse strength of the penalty.
        c: f64,
    },
    /// The difference of the class means.
    Means,
    /// Linear discriminant analysis.
    Discriminant {
        /// Share of the identity in the covariance.
        shrinkage: f64,
    },
}

impl Estimator {
    /// Its name in tables: `logistic, c 10`.
    pub fn name(self) -> String {
        match self {
            Estimator::Logistic { c } => format!("logistic, c {c}"),
            Estimator::SparseLogistic { c, l1_share: 1.0 } => format!("logistic with L1, c {c}"),
            Estimator::SparseLogistic { c, l1_share } => format!("logistic with {l1_share} L1, c {c}"),
            Estimator::Linfa { c } => format!("linfa's logistic, c {c}"),
            Estimator::Means => "difference of means".to_string(),
            Estimator::Discriminant { shrinkage } => format!("lda, shrinkage {shrinkage}"),
        }
    }
    /// Inverse strength of its penalty; 1 for those that have none.
    pub fn c(self) -> f64 {
        match self {
            Estimator::Logistic { c } | Estimator::SparseLogistic { c, .. } | Estimator::Linfa { c } => c,
            Estimator::Means | Estimator::Discriminant { .. } => 1.0,
        }
    }
    /// The same at another C, for those that have one.
    pub fn with_c(self, c: f64) -> Self {
        match self {
            Estimator::Logistic { .. } => Estimator::Logistic { c },
            Estimator::SparseLogistic { l1_share, .. } => Estimator::SparseLogistic { c, l1_share },
            Estimator::Linfa { .. } => Estimator::Linfa { c },
            Estimator::Means | Estimator::Discriminant { .. } => self,
        }
    }
    /// Whether its decision values are log-odds.
    pub fn gives_log_odds(self) -> bool {
        matches!(self, Estimator::Logistic { .. } | Estimator::SparseLogistic { .. } | Estimator::Linfa { .. })
    }
}

/// A way to fit a probe.
#[derive(Clone, Copy)]
pub struct ProbeMethod(pub Estimator);

handle!(ProbeMethod);

impl Handle for ProbeMethod {
    const NAME: &'static str = "ProbeMethod";
    fn identity(&self) -> Value {
        json!(self.0)
    }
    fn describe(&self) -> String {
        format!("ProbeMethod {}", self.identity())
    }
}

/// What large weights cost.
#[derive(Clone, Copy)]
pub struct Penalty {
    l1_share: f64,
}

handle!(Penalty);

impl Handle for Penalty {
    const NAME: &'static str = "Penalty";
    fn identity(&self) -> Value {
        json!({ "l1_share": self.l1_share })
    }
    fn describe(&self) -> String {
        format!("Penalty: {} of it L1", self.l1_share)
    }
}

/// Which rows are held out together when a probe is checked on rows that it did not see.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// As scikit-learn's `StratifiedKFold`.
    Stratified {
        /// Number of folds.
        count: usize,
        /// Seed of the shuffle; in file order when absent.
        seed: Option<u32>,
    },
    /// Rows of a group stay together.
    Groups {
        /// Number of folds.
        count: usize,
    },
    /// Each source is held out once.
    Sources,
    /// No fold: only the final fit.
    None,
}

/// A plan of folds.
#[derive(Clone, Copy)]
pub struct Folds(pub Plan);

handle!(Folds);

impl Handle for Folds {
    const NAME: &'static str = "Folds";
    fn identity(&self) -> Value {
        json!(self.0)
    }
    fn describe(&self) -> String {
        format!("Folds {}", self.identity())
    }
}

/// Features drawn at random, for a control.
#[derive(Clone, Copy)]
pub struct RandomFeatures {
    /// How many.
    pub count: usize,
    /// Decides which.
    pub seed: u64,
}

handle!(RandomFeatures);

impl Handle for RandomFeatures {
    const NAME: &'static str = "RandomFeatures";
    fn identity(&self) -> Value {
        json!({ "count": self.count, "seed": self.seed })
    }
    fn describe(&self) -> String {
        format!("{} features drawn with seed {}", self.count, self.seed)
    }
}

/// How the handles appear in scripts.
pub fn handle_types() -> Vec<HandleType> {
    vec![
        HandleType::of::<ProbeMethod>("A way to fit a probe."),
        HandleType::of::<Penalty>("What large weights of a probe cost."),
        HandleType::of::<Folds>("Which rows are held out together when a probe is checked."),
        HandleType::of::<RandomFeatures>("Features drawn at random, for a control."),
    ]
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RandomFeaturesOptions {
    /// Decides which.
    seed: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct LogisticOptions {
    /// Inverse strength of the penalty, as in scikit-learn.
    c: f64,
    /// `l2()`, `l1()` or `elastic_net(...)`; `l2()` when left out.
    penalty: Option<Penalty>,
}

impl Default for LogisticOptions {
    fn default() -> Self {
        LogisticOptions { c: 10.0, penalty: None }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct LinfaOptions {
    /// Inverse strength of the L2 penalty.
    c: f64,
}

impl Default for LinfaOptions {
    fn default() -> Self {
        LinfaOptions { c: 10.0 }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ElasticNetOptions {
    /// Share of L1 in the penalty, above 0 and up to 1.
    l1_share: f64,
}

impl Default for ElasticNetOptions {
    fn default() -> Self {
        ElasticNetOptions { l1_share: 0.5 }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct DiscriminantOptions {
    /// Share of the identity in the covariance, 0 to 1; more features than rows need some.
    shrinkage: f64,
}

impl Default for DiscriminantOptions {
    fn default() -> Self {
        DiscriminantOptions { shrinkage: 0.1 }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct StratifiedOptions {
    /// Number of folds.
    count: usize,
    /// Seed of the shuffle (numpy's legacy generator); folds in file order when left out.
    seed: Option<u32>,
}

impl Default for StratifiedOptions {
    fn default() -> Self {
        StratifiedOptions { count: 5, seed: None }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GroupOptions {
    /// Number of folds.
    count: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        GroupOptions { count: 5 }
    }
}

/// The declarations.
pub fn primitives() -> Vec<Primitive<Lab>> {
    vec![
        Primitive::new("logistic", |_: &Lab, _: &Call, _: (), options: LogisticOptions| {
            positive(options.c)?;
            let c = options.c;
            Ok(ProbeMethod(match options.penalty {
                Some(Penalty { l1_share }) if l1_share > 0.0 => Estimator::SparseLogistic { c, l1_share },
                _ => Estimator::Logistic { c },
            }))
        })
        .about(
            "Logistic regression at its exact optimum: the result proves how near it is, and a fit that does not converge \
             is an error. The intercept is not penalised.",
        )
        .example("logistic(#{ c: 0.1, penalty: l1() })"),
        Primitive::new("logistic_linfa", |_: &Lab, _: &Call, _: (), options: LinfaOptions| {
            positive(options.c)?;
            Ok(ProbeMethod(Estimator::Linfa { c: options.c }))
        })
        .about("linfa's logistic regression on dense rows, as a cross-check of `logistic` on small data.")
        .example("logistic_linfa(#{ c: 0.1 })"),
        Primitive::new("difference_of_means", |_: &Lab, _: &Call, _: (), _: ()| Ok(ProbeMethod(Estimator::Means)))
            .about("The difference of the class means of standardised features, its zero half way.")
            .example("difference_of_means()"),
        Primitive::new("lda", |_: &Lab, _: &Call, _: (), options: DiscriminantOptions| {
            ensure!((0.0..=1.0).contains(&options.shrinkage), "`shrinkage` is {}", options.shrinkage;
                help: "write a number from 0 to 1");
            Ok(ProbeMethod(Estimator::Discriminant { shrinkage: options.shrinkage }))
        })
        .about("Linear discriminant analysis with a shrunken covariance, as scikit-learn's `lsqr` solver.")
        .example("lda(#{ shrinkage: 0.1 })"),
        Primitive::new("l2", |_: &Lab, _: &Call, _: (), _: ()| Ok(Penalty { l1_share: 0.0 }))
            .about("The squared length of the weights.")
            .example("logistic(#{ c: 10.0, penalty: l2() })"),
        Primitive::new("l1", |_: &Lab, _: &Call, _: (), _: ()| Ok(Penalty { l1_share: 1.0 }))
            .about("The sum of absolute weights: few of them are left.")
            .example("logistic(#{ c: 0.1, penalty: l1() })"),
        Primitive::new("elastic_net", |_: &Lab, _: &Call, _: (), options: ElasticNetOptions| {
            ensure!(options.l1_share > 0.0 && options.l1_share <= 1.0, "`l1_share` is {}", options.l1_share;
                help: "write a number above 0 and up to 1, or use `l2()`");
            Ok(Penalty { l1_share: options.l1_share })
        })
        .about("A mixture of both penalties.")
        .example("logistic(#{ penalty: elastic_net(#{ l1_share: 0.5 }) })"),
        Primitive::new("stratified_folds", |_: &Lab, _: &Call, _: (), options: StratifiedOptions| {
            Ok(Folds(Plan::Stratified { count: options.count, seed: options.seed }))
        })
        .about("Folds with equal shares of both classes, row for row as scikit-learn's `StratifiedKFold`.")
        .example("train_probe([data], #{ folds: stratified_folds(#{ count: 5, seed: 42 }) })"),
        Primitive::new("group_folds", |_: &Lab, _: &Call, _: (), options: GroupOptions| {
            Ok(Folds(Plan::Groups { count: options.count }))
        })
        .about("Folds that never part a group; activations need `groups`.")
        .example("train_probe([data], #{ folds: group_folds() })"),
        Primitive::new("leave_one_source_out", |_: &Lab, _: &Call, _: (), _: ()| Ok(Folds(Plan::Sources)))
            .about("Each source is held out once: the honest number for sources that were never seen.")
            .example("train_probe([train, benchmark], #{ folds: leave_one_source_out() })"),
        Primitive::new("no_folds", |_: &Lab, _: &Call, _: (), _: ()| Ok(Folds(Plan::None)))
            .about("Only the final fit; rows of the training sources then have no out-of-fold scores.")
            .example("train_probe([data], #{ folds: no_folds() })"),
        Primitive::new("random_features", |_: &Lab, _: &Call, (count,): (usize,), options: RandomFeaturesOptions| {
            ensure!(count > 0, "`random_features` asks for no features"; help: "ask for at least one");
            Ok(RandomFeatures { count, seed: options.seed })
        })
        .about(
            "Features drawn at random from those that occur in the training rows: a control for a probe with as many \
             weights that are not 0.",
        )
        .input("count", "How many.")
        .example("train_probe([data], #{ features: random_features(89, #{ seed: 1 }) })"),
    ]
}

fn positive(c: f64) -> Result<()> {
    ensure!(c > 0.0 && c.is_finite(), "`c` is {c}"; help: "write a number above 0");
    Ok(())
}
