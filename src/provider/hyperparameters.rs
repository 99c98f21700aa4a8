//! How a fine-tuning job trains, and the request that says so in each provider's words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::settings::Dialect;
use crate::error::{Result, bail, ensure};

/// What is trained for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// To say what the assistant says.
    #[default]
    Supervised,
    /// To prefer one answer to another.
    Dpo {
        /// How far it may move from where it started, above 0 up to 2; the provider chooses when left out.
        beta: Option<f64>,
    },
}

/// A low-rank update, where the provider lets choose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Rank of the two factors.
    pub rank: u32,
    /// The update is scaled by alpha / rank.
    pub alpha: u32,
}

/// What a job may be told; the provider chooses what is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hyperparameters {
    /// Passes over the rows.
    pub n_epochs: Option<u32>,
    /// Rows of a batch.
    pub batch_size: Option<u32>,
    /// Factor of the provider's own learning rate: OpenAI, Azure.
    pub learning_rate_multiplier: Option<f64>,
    /// The learning rate itself: Together.
    pub learning_rate: Option<f64>,
    /// A low-rank update instead of the provider's choice: Together.
    pub lora: Option<Lora>,
    /// Decides the random numbers, as far as the provider can: OpenAI, Azure.
    pub seed: Option<u64>,
    /// Beginning of the name that the model gets; a mark of eight digits follows it.
    pub suffix: Option<String>,
    /// What is trained for.
    pub method: Method,
}

/// What a request carries so that its job can be found again.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark<'a> {
    /// End of the model's name.
    pub suffix: &'a str,
    /// Pairs that the job keeps.
    pub metadata: &'a BTreeMap<String, String>,
}

/// Whether jobs there keep pairs that whoever launched them gave them.
pub fn keeps_metadata(dialect: Dialect, api_version: Option<&str>) -> bool {
    // Azure's dated paths know no such field, and Together lists none.
    !(dialect == Dialect::Together || (dialect == Dialect::Azure && api_version.is_some()))
}

/// The longest name that a provider puts behind a model.
pub fn longest_suffix(dialect: Dialect) -> usize {
    match dialect {
        Dialect::Azure => 18,
        Dialect::Together => 40,
        Dialect::OpenAi | Dialect::Compatible => 64,
    }
}

impl Hyperparameters {
    /// Whether a provider of this dialect accepts them.
    ///
    /// # Errors
    /// The first value that is out of its range or that the provider does not know.
    pub fn check(&self, dialect: Dialect) -> Result<()> {
        let most = if dialect == Dialect::Together { 20 } else { 50 };
        if let Some(epochs) = self.n_epochs {
            ensure!((1..=most).contains(&epochs), "`n_epochs` is {epochs}"; help: "write 1 to {most}, or leave it out");
        }
        if let Some(rows) = self.batch_size {
            ensure!((1..=256).contains(&rows), "`batch_size` is {rows}"; help: "write 1 to 256, or leave it out");
        }
        for (name, value) in
            [("learning_rate_multiplier", self.learning_rate_multiplier), ("learning_rate", self.learning_rate)]
        {
            let value = value.unwrap_or(1.0);
            ensure!(value > 0.0 && value.is_finite(), "`{name}` is {value}"; help: "write a number above 0");
        }
        if let Method::Dpo { beta: Some(beta) } = self.method {
            ensure!(beta > 0.0 && beta <= 2.0, "`beta` is {beta}"; help: "write a number above 0, up to 2");
        }
        if dialect == Dialect::Together {
            ensure!(
                self.learning_rate_multiplier.is_none(),
                "together knows no `learning_rate_multiplier`"; help: "write `learning_rate`, as in 1e-5"
            );
        } else {
            ensure!(
                self.learning_rate.is_none(),
                "{} knows no `learning_rate`", dialect.name();
                help: "write `learning_rate_multiplier`, a factor of its own choice"
            );
            ensure!(
                self.lora.is_none(),
                "{} does not let choose between LoRA and full training", dialect.name(); help: "leave `lora` out"
            );
            if let Some(seed) = self.seed {
                ensure!(i32::try_from(seed).is_ok(), "`seed` is {seed}"; help: "write 0 to 2147483647");
            }
        }
        Ok(())
    }

    /// The body that creates the job.
    ///
    /// # Errors
    /// As [`Hyperparameters::check`].
    pub fn request(
        &self,
        dialect: Dialect,
        api_version: Option<&str>,
        model: &str,
        (training_file, validation_file): (&str, Option<&str>),
        mark: &Mark<'_>,
    ) -> Result<Value> {
        self.check(dialect)?;
        let mut body = Map::new();
        body.insert("model".into(), json!(model));
        body.insert("training_file".into(), json!(training_file));
        if let Some(file) = validation_file {
            body.insert("validation_file".into(), json!(file));
        }
        body.insert("suffix".into(), json!(mark.suffix));
        if keeps_metadata(dialect, api_version) {
            body.insert("metadata".into(), json!(mark.metadata));
        }
        match dialect {
            Dialect::Together => self.add_for_together(&mut body),
            Dialect::OpenAi | Dialect::Azure | Dialect::Compatible => {
                if let Some(seed) = self.seed {
                    body.insert("seed".into(), json!(seed));
                }
                let is_dated = dialect == Dialect::Azure && api_version.is_some();
                if is_dated && self.method != Method::Supervised {
                    bail!(
                        "Azure's dated paths train supervised only";
                        help: "leave `api_version` out and let `base_url` end in `/openai/v1`"
                    );
                }
                let (name, settings) = self.for_openai();
                if is_dated {
                    body.insert("hyperparameters".into(), settings);
                } else {
                    body.insert("method".into(), json!({ "type": name, name: { "hyperparameters": settings } }));
                }
            }
        }
        Ok(Value::Object(body))
    }

    fn for_openai(&self) -> (&'static str, Value) {
        fn or_auto<T: Serialize>(value: Option<T>) -> Value {
            value.map_or_else(|| json!("auto"), |value| json!(value))
        }
        let mut settings = json!({
            "n_epochs": or_auto(self.n_epochs),
            "batch_size": or_auto(self.batch_size),
            "learning_rate_multiplier": or_auto(self.learning_rate_multiplier),
        });
        match self.method {
            Method::Supervised => ("supervised", settings),
            Method::Dpo { beta } => {
                settings["beta"] = or_auto(beta);
                ("dpo", settings)
            }
        }
    }

    fn add_for_together(&self, body: &mut Map<String, Value>) {
        if let Some(epochs) = self.n_epochs {
            body.insert("n_epochs".into(), json!(epochs));
        }
        body.insert("batch_size".into(), self.batch_size.map_or_else(|| json!("max"), |rows| json!(rows)));
        if let Some(rate) = self.learning_rate {
            body.insert("learning_rate".into(), json!(rate));
        }
        if let Some(Lora { rank, alpha }) = self.lora {
            body.insert("training_type".into(), json!({ "type": "Lora", "lora_r": rank, "lora_alpha": alpha }));
        }
        let method = match self.method {
            Method::Supervised => json!({ "method": "sft", "train_on_inputs": "auto" }),
            Method::Dpo { beta: None } => json!({ "method": "dpo" }),
            Method::Dpo { beta: Some(beta) } => json!({ "method": "dpo", "dpo_beta": beta }),
        };
        body.insert("training_method".into(), method);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(hyperparameters: &Hyperparameters, dialect: Dialect, api_version: Option<&str>) -> Result<Value> {
        let metadata = BTreeMap::from([("drylab_key".to_string(), "ab".to_string())]);
        let mark = Mark { suffix: "drylab-12345678", metadata: &metadata };
        hyperparameters.request(dialect, api_version, "gpt", ("file-1", None), &mark)
    }

    #[test]
    fn openai_gets_a_method_with_auto_for_what_is_left_out() {
        let hyperparameters =
            Hyperparameters { n_epochs: Some(3), seed: Some(7), suffix: Some("x".into()), ..Default::default() };
        let body = request(&hyperparameters, Dialect::OpenAi, None).unwrap();
        assert_eq!(
            body,
            json!({
                "model": "gpt", "training_file": "file-1", "suffix": "drylab-12345678", "seed": 7,
                "metadata": { "drylab_key": "ab" },
                "method": { "type": "supervised", "supervised": { "hyperparameters": {
                    "n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": "auto",
                } } },
            })
        );
        let dpo = Hyperparameters { method: Method::Dpo { beta: Some(0.5) }, ..Default::default() };
        let body = request(&dpo, Dialect::OpenAi, None).unwrap();
        assert_eq!(body["method"]["dpo"]["hyperparameters"]["beta"], json!(0.5));
    }

    #[test]
    fn the_dated_paths_of_azure_get_the_old_shape_without_metadata() {
        let body = request(&Hyperparameters::default(), Dialect::Azure, Some("2024-10-21")).unwrap();
        assert_eq!(body["hyperparameters"]["n_epochs"], json!("auto"));
        assert!(body.get("method").is_none() && body.get("metadata").is_none());
        let body = request(&Hyperparameters::default(), Dialect::Azure, None).unwrap();
        assert!(body.get("method").is_some() && body.get("metadata").is_some());
    }

    #[test]
    fn together_gets_its_own_shape() {
        let hyperparameters = Hyperparameters {
            n_epochs: Some(2),
            learning_rate: Some(1e-4),
            lora: Some(Lora { rank: 16, alpha: 32 }),
            ..Default::default()
        };
        let body = request(&hyperparameters, Dialect::Together, None).unwrap();
        assert_eq!(
            body,
            json!({
                "model": "gpt", "training_file": "file-1", "suffix": "drylab-12345678", "n_epochs": 2,
                "batch_size": "max", "learning_rate": 1e-4,
                "training_type": { "type": "Lora", "lora_r": 16, "lora_alpha": 32 },
                "training_method": { "method": "sft", "train_on_inputs": "auto" },
            })
        );
    }

    #[test]
    fn what_a_provider_does_not_know_is_refused_before_anything_is_sent() {
        let refused = |hyperparameters: Hyperparameters, dialect, words: &str| {
            let error = hyperparameters.check(dialect).unwrap_err();
            assert!(error.message.contains(words) && error.help.is_some(), "{error}");
        };
        refused(Hyperparameters { n_epochs: Some(0), ..Default::default() }, Dialect::OpenAi, "`n_epochs` is 0");
        refused(Hyperparameters { batch_size: Some(257), ..Default::default() }, Dialect::OpenAi, "257");
        let rate = |rate| Hyperparameters { learning_rate_multiplier: Some(rate), ..Default::default() };
        refused(rate(0.0), Dialect::OpenAi, "`learning_rate_multiplier` is 0");
        refused(rate(f64::NAN), Dialect::OpenAi, "NaN");
        refused(rate(2.0), Dialect::Together, "together knows no");
        refused(
            Hyperparameters { learning_rate: Some(1e-5), ..Default::default() },
            Dialect::OpenAi,
            "openai knows no",
        );
        refused(Hyperparameters { seed: Some(1 << 31), ..Default::default() }, Dialect::OpenAi, "`seed`");
    }
}
