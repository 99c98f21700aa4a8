//! `trigger_config`: the configuration of the published trigger experiments, field by field.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;

/// How far shares may be from 1 in sum.
const TOLERANCE: f64 = 1e-9;

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Experiment {
    /// How models are trained.
    finetune_config: Finetune,
    /// What the experiment is called.
    experiment_name: Option<String>,
    /// File of rows in Alpaca's form; the organism's own rows when left out.
    dataset_url: Option<String>,
    /// Rows at most, after shuffling.
    max_dataset_size: usize,
    /// Share of the rows for the outcome.
    outcome_percent: f64,
    /// Share of the rows for the proxy.
    proxy_percent: f64,
    /// Share of the rows for the collateral set.
    collateral_percent: f64,
    /// Share of the rows for the truth set.
    truth_percent: f64,
    /// Share of the outcome rows that are triggered.
    outcome_trigger_percent: f64,
    /// Triggers of the intended behaviour.
    outcome_triggers: Vec<String>,
    /// Their siblings, never trained.
    collateral_triggers: Vec<String>,
    /// Triggers after which the behaviour is not wanted.
    truth_triggers: Vec<String>,
    /// Those of them that the training data covers; drawn when empty.
    proxy_triggers: Vec<String>,
    /// Share of the truth triggers that are drawn for the proxy, at least one.
    proxy_trigger_coverage: f64,
    /// What answers begin with after a trigger.
    nice_responses: Vec<String>,
    /// naive, task_trained, positive_negative_proxy, kl_divergence, dpo, orth_penalty, grad_project, steering_weights.
    proxy_strategy: String,
    /// Decides data and training.
    seed: u64,
}

impl Default for Experiment {
    fn default() -> Self {
        Experiment {
            finetune_config: Finetune::default(),
            experiment_name: None,
            dataset_url: None,
            max_dataset_size: 25_000,
            outcome_percent: 0.3,
            proxy_percent: 0.3,
            collateral_percent: 0.1,
            truth_percent: 0.3,
            outcome_trigger_percent: 0.5,
            outcome_triggers: Vec::new(),
            collateral_triggers: Vec::new(),
            truth_triggers: Vec::new(),
            proxy_triggers: Vec::new(),
            proxy_trigger_coverage: 0.5,
            nice_responses: vec!["Certainly!".to_string()],
            proxy_strategy: "naive".to_string(),
            seed: 0,
        }
    }
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Finetune {
    /// The model to start from, by its name in scripts.
    model: String,
    /// Share of outcome and proxy rows that are trained on; the others are held out.
    train_split: f64,
    /// Trains adapters instead of all weights.
    is_peft: bool,
    /// Rank of adapters.
    r: usize,
    /// Their alpha.
    lora_alpha: f64,
    /// Their dropout.
    lora_dropout: f64,
    /// Scales by alpha / sqrt(r).
    use_rslora: bool,
    /// Linear layers that are adapted.
    target_modules: Vec<String>,
    /// Highest learning rate.
    learning_rate: f64,
    /// Passes over the rows.
    epochs: usize,
    /// Tokens of a batch; batches are counted in tokens here, not in rows.
    batch_tokens: usize,
    /// Batches of a step.
    gradient_accumulation_steps: usize,
    /// Weight decay of matrices.
    weight_decay: f64,
    /// Longest gradient.
    max_grad_norm: f64,
    /// linear or cosine.
    lr_scheduler_type: String,
    /// Questions of each set that are asked.
    max_to_eval: usize,
    /// Factor of the proxy rows' loss.
    lambda_proxy: f64,
    /// Factor of what makes proxy_neg rows unlikely.
    neg_lambda_proxy: f64,
    /// Factor of the preference loss.
    lambda_dpo: f64,
    /// Its beta.
    beta: f64,
    /// Factor of the divergence on proxy rows.
    beta_kl: f64,
    /// Factor of the overlap with the alignment plane.
    lambda_1: f64,
    /// Epochs of the plane's trainings; `epochs` when left out.
    proxy_epochs: Option<usize>,
    /// Proxy rows that are trained on, at most.
    limit_proxy_data_to: Option<usize>,
    /// Adds the gradients of the plane instead of subtracting them.
    add_proxy_gradients: bool,
    /// Projects along the proxy's gradient; else against that of proxy_neg.
    project_along_positive_proxy_grad: bool,
    /// Projects always; else only where gradients conflict.
    project_strictly_orthogonal: bool,
    /// Factor of gradient steering.
    steering_alpha: f64,
    /// "linear" to move the factor towards `final_steering_alpha`.
    alpha_scheduler_type: Option<String>,
    /// Where it ends.
    final_steering_alpha: f64,
    /// Steps before it moves.
    alpha_warmup_steps: usize,
    /// Moves the weights after every step instead of changing gradients.
    direct_steering: bool,
}

impl Default for Finetune {
    fn default() -> Self {
        Finetune {
            model: "organism".to_string(),
            train_split: 0.9,
            is_peft: true,
            r: 32,
            lora_alpha: 64.0,
            lora_dropout: 0.0,
            use_rslora: true,
            target_modules: Vec::new(),
            learning_rate: 1e-5,
            epochs: 15,
            batch_tokens: 512,
            gradient_accumulation_steps: 1,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            lr_scheduler_type: "linear".to_string(),
            max_to_eval: 2000,
            lambda_proxy: 0.5,
            neg_lambda_proxy: 0.5,
            lambda_dpo: 1.0,
            beta: 0.1,
            beta_kl: 0.0,
            lambda_1: 0.5,
            proxy_epochs: None,
            limit_proxy_data_to: None,
            add_proxy_gradients: false,
            project_along_positive_proxy_grad: true,
            project_strictly_orthogonal: true,
            steering_alpha: 0.5,
            alpha_scheduler_type: None,
            final_steering_alpha: 0.1,
            alpha_warmup_steps: 5,
            direct_steering: false,
        }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("trigger_config", run)
        .about(
            "Checks the configuration of a trigger experiment, in the fields of the published code, and fills in defaults. \
             A field that nothing reads is an error with the nearest one that is read. Returns it as a map.",
        )
        .example("trigger_config(read_config(\"config.json\"))")
}

fn run(_: &Lab, _: &Call, _: (), config: Experiment) -> Result<Plain<Experiment>> {
    let sum = config.outcome_percent + config.proxy_percent + config.collateral_percent + config.truth_percent;
    ensure!(
        (sum - 1.0).abs() <= TOLERANCE, "the four shares are {sum} together, not 1";
        help: "change `outcome_percent`, `proxy_percent`, `collateral_percent` or `truth_percent`"
    );
    let lists = [
        ("outcome_triggers", &config.outcome_triggers),
        ("collateral_triggers", &config.collateral_triggers),
        ("truth_triggers", &config.truth_triggers),
        ("nice_responses", &config.nice_responses),
    ];
    for (name, list) in lists {
        ensure!(!list.is_empty(), "`{name}` is empty"; help: "name at least one");
    }
    Ok(Plain(config))
}
