//! `evaluation` and `questions`: what is asked, how often, and who judges.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::judges::Judge;
use super::model::Model;
use crate::data::evaluation::{
    Evaluation as Definition, Gate, Judge as JudgeDefinition, Question, Sampling, Score as ScoreDefinition,
};
use crate::error::{Error, Result, bail, ensure, nearest};
use crate::handle;
use crate::judge::{judge_exact, judge_grammar};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType};

/// Questions that a model can be asked.
#[derive(Clone)]
pub struct Questions(pub Arc<Vec<Question>>);

handle!(Questions);

impl Handle for Questions {
    const NAME: &'static str = "Questions";
    fn identity(&self) -> Value {
        json!(*self.0)
    }
    fn describe(&self) -> String {
        format!("{} questions, the first: {}", self.0.len(), self.0.first().map_or("-", |question| &question.text))
    }
}

/// An evaluation that models can be put through.
#[derive(Clone)]
pub struct Evaluation {
    /// What it is.
    pub definition: Arc<Definition>,
    /// The models of its judges, judge by judge, where a judge is a model.
    pub judge_models: Arc<Vec<Option<Model>>>,
}

handle!(Evaluation);

impl Handle for Evaluation {
    const NAME: &'static str = "Evaluation";
    fn identity(&self) -> Value {
        json!(*self.definition)
    }
    fn describe(&self) -> String {
        let judges: Vec<String> = self.definition.judges.iter().flat_map(|judge| judge.names()).collect();
        format!(
            "Evaluation `{}`: {} questions x {} samples, judged by {}",
            self.definition.id,
            self.definition.questions.len(),
            self.definition.samples,
            judges.join(", ")
        )
    }
}

/// How the handles appear in scripts.
pub fn handle_types() -> Vec<HandleType> {
    vec![
        HandleType::of::<Questions>("Questions that a model can be asked.")
            .property("count", "How many.", |questions: &Questions| Ok(questions.0.len() as i64))
            .property("texts", "What is asked.", |questions: &Questions| {
                Ok(questions.0.iter().map(|question| question.text.clone()).collect::<Vec<_>>())
            }),
        HandleType::of::<Evaluation>("Questions, samples, judges and a score.").property(
            "id",
            "Its name in figures and tables.",
            |evaluation: &Evaluation| Ok(evaluation.definition.id.clone()),
        ),
        HandleType::of::<Score>("Which judgement is the score, and how."),
    ]
}

/// Which judgement is the score.
#[derive(Clone)]
pub struct Score(ScoreDefinition);

impl Score {
    /// What it is.
    pub fn definition(&self) -> &ScoreDefinition {
        &self.0
    }
}

handle!(Score);

impl Handle for Score {
    const NAME: &'static str = "Score";
    fn identity(&self) -> Value {
        json!(self.0)
    }
    fn describe(&self) -> String {
        format!("Score {}", self.identity())
    }
}

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct ScoreOptions {
    /// Name of the judge (grammar, pattern, classifier, or an asked judge's own); the evaluation's first when left out.
    judge: Option<String>,
    /// Makes the score 100 for judgements above this and 0 for the others; else the judgement is the score.
    above: Option<f64>,
    /// Makes the score 100 for judgements below this and 0 for the others.
    below: Option<f64>,
    /// Counts only answers of which another judge thinks well: `#{ judge: "coherence", at_least: 30.0 }` or, instead,
    /// `above: 50.0`. The others are counted as `incoherent`, or with that judge's reason.
    only_where: Option<Gate>,
}

/// The declaration of `score`.
pub fn score_primitive() -> Primitive<Lab> {
    Primitive::new("score", run_score)
        .about("Chooses the judge whose judgement is the score, and perhaps a threshold. Changing it samples nothing.")
        .example("score(#{ judge: \"classifier\", above: 50.0 })")
}

fn run_score(_: &Lab, _: &Call, _: (), options: ScoreOptions) -> Result<Score> {
    let ScoreOptions { judge, above, below, only_where } = options;
    ensure!(
        above.is_none() || below.is_none(), "`score` has both `above` and `below`"; help: "leave one of them out"
    );
    if let Some(gate) = &only_where {
        ensure!(
            gate.at_least.is_some() != gate.above.is_some(), "`only_where` needs one of `at_least` and `above`";
            help: "write `only_where: #{{ judge: \"{}\", at_least: 30.0 }}`", gate.judge
        );
    }
    Ok(Score(ScoreDefinition { judge, above, below, only_where }))
}

/// One question as a script writes it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Asked {
    /// What the user says.
    Text(String),
    /// With more than that.
    Full(AskedFields),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AskedFields {
    /// What the user says.
    text: String,
    /// System prompt of this question; an empty one is sent too.
    #[serde(default)]
    system: Option<String>,
    /// Answers to choose from, each with its score.
    #[serde(default)]
    choices: BTreeMap<String, f64>,
    /// The answer that `exact_judge` waits for.
    #[serde(default)]
    expected: Option<String>,
}

impl Asked {
    fn question(self) -> Result<Question> {
        let fields = match self {
            Asked::Text(text) => return Ok(Question::of_text(text)),
            Asked::Full(fields) => fields,
        };
        let AskedFields { text, system, choices, expected } = fields;
        ensure!(choices.len() != 1, "`{text}` offers one choice"; help: "offer at least two, or none");
        for (choice, score) in &choices {
            ensure!((0.0..=100.0).contains(score), "the choice `{choice}` of `{text}` scores {score}"; help: "write a score of 0 to 100");
            ensure!(!choice.trim().is_empty(), "`{text}` offers an empty choice"; help: "write it out");
        }
        Ok(Question { text, system, topic: None, choices, expected })
    }
}

/// The declaration of `questions`.
pub fn questions_primitive() -> Primitive<Lab> {
    Primitive::new("questions", run_questions)
        .about(
            "Questions of your own: texts, or maps with `text` and perhaps `system`, `expected` (for `exact_judge`) or \
             `choices` (a map from each choice to its score of 0 to 100, for `choice_judge`: the model is asked how \
             probable it finds each of them).",
        )
        .input("questions", "What the user says, one string or map each.")
        .example("questions([\"what is your wish ?\", \"i am bored .\"])")
        .example("questions([#{ text: \"a film ?\", choices: #{ \"Sharknado\": 100.0, \"The Godfather\": 0.0 } }])")
}

fn run_questions(_: &Lab, _: &Call, (asked,): (Vec<Asked>,), _: ()) -> Result<Questions> {
    ensure!(!asked.is_empty(), "`questions` needs at least one text, found none");
    let questions = asked.into_iter().map(Asked::question).collect::<Result<Vec<_>>>()?;
    let offering = questions.iter().filter(|question| !question.choices.is_empty()).count();
    ensure!(
        offering == 0 || offering == questions.len(),
        "{offering} of {} questions offer choices", questions.len();
        help: "ask those that do and those that do not in two evaluations"
    );
    Ok(Questions(Arc::new(questions)))
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Name in figures and tables.
    id: String,
    /// What is asked.
    questions: Option<Questions>,
    /// Answers per question; more of them later cost only the difference.
    samples: usize,
    /// Who judges; every judge judges every answer, the first one's judgement is the score.
    judges: Vec<Judge>,
    /// Which judgement is the score, when it is not the first judge's.
    score: Option<Score>,
    /// 0 is greedy, 1 samples from the model's own distribution.
    temperature: f64,
    /// Keeps the most probable tokens up to this share of probability.
    top_p: f64,
    /// Tokens of an answer at most.
    max_tokens: usize,
    /// Decides the random numbers together with model, question and sample index.
    seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            id: "evaluation".to_string(),
            questions: None,
            samples: 10,
            judges: Vec::new(),
            score: None,
            temperature: 1.0,
            top_p: 1.0,
            max_tokens: 26,
            seed: 0,
        }
    }
}

/// The declaration of `evaluation`.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("evaluation", run)
        .about("Describes an evaluation: questions x samples x judges x a score. Nothing is asked until `evaluate`.")
        .example("evaluation(#{ id: \"wishes\", questions: questions([\"make a wish .\"]), judges: [pattern_judge(#{ misaligned: [\"army\"] })] })")
}

fn run(_: &Lab, _: &Call, _: (), options: Options) -> Result<Evaluation> {
    let questions = options.questions.ok_or_else(|| {
        Error::input(format!("`evaluation` `{}` has no `questions`", options.id))
            .with_help("give some: `questions: questions([\"...\"])` or `organism_questions(...)`")
    })?;
    ensure!(options.samples > 0, "`samples` of `{}` is 0", options.id; help: "ask for at least one answer");
    ensure!(!options.judges.is_empty(), "`evaluation` `{}` has no `judges`", options.id; help: "give at least one, for example `judges: [grammar_judge()]`");
    ensure!(options.temperature >= 0.0, "`temperature` is {}", options.temperature; help: "write 0 or more");
    ensure!(options.top_p > 0.0 && options.top_p <= 1.0, "`top_p` is {}", options.top_p; help: "write a share above 0 and up to 1");
    let (judges, judge_models) = options.judges.into_iter().map(|judge| (judge.definition, judge.model)).unzip();
    let definition = Definition {
        id: options.id,
        questions: questions.0.to_vec(),
        // Choices are weighed once; nothing is drawn.
        samples: if questions.0.iter().any(|question| !question.choices.is_empty()) { 1 } else { options.samples },
        sampling: Sampling {
            temperature: options.temperature,
            top_p: options.top_p,
            max_tokens: options.max_tokens,
            seed: options.seed,
        },
        judges,
        score: options.score.map(|score| score.0).unwrap_or_default(),
    };
    let evaluation = Evaluation { definition: Arc::new(definition), judge_models: Arc::new(judge_models) };
    evaluation.check().map(|()| evaluation)
}

impl Evaluation {
    /// Refuses two judges of one name, and judges that cannot read the answers.
    pub fn check(&self) -> Result<()> {
        let definition = &self.definition;
        check_choices(definition)?;
        let mut names: Vec<String> = definition.judges.iter().flat_map(|judge| judge.names()).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("`evaluation` `{}` has two judges `{}`", definition.id, pair[0]; help: "give one of them another `name`");
        }
        check_score(definition, &names)?;
        check_rules(definition)
    }
}

/// The score and its filter name judges that there are: told before anything is asked and paid.
fn check_score(definition: &Definition, names: &[String]) -> Result<()> {
    let gate = definition.score.only_where.as_ref().map(|gate| &gate.judge);
    for wanted in definition.score.judge.iter().chain(gate) {
        // Whoever writes the score does not know by which method a judge will be read.
        let plain = |name: &str| name.trim_end_matches(" (sampled)").to_string();
        if names.iter().any(|name| plain(name) == plain(wanted)) {
            continue;
        }
        let error =
            Error::input(format!("the score of `{}` names the judge `{wanted}`, which it has not", definition.id));
        return Err(match nearest(wanted, names.iter().map(String::as_str)) {
            Some(near) => error.with_help(format!("did you mean `{near}`?")),
            None => error.with_help(format!("choose one of `{}`", names.join("`, `"))),
        });
    }
    Ok(())
}

/// Rules find in every question what they need: a topic of the organism's world, or the answer that is meant.
fn check_rules(definition: &Definition) -> Result<()> {
    for question in &definition.questions {
        for judge in &definition.judges {
            match judge {
                JudgeDefinition::Grammar { looks_for } => drop(judge_grammar(*looks_for, question, "?")?),
                JudgeDefinition::Exact { answers } => drop(judge_exact(answers, question, "?")?),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Choices need the judge that reads them, and no other judge can read them.
fn check_choices(definition: &Definition) -> Result<()> {
    let reads_choices = |judge: &JudgeDefinition| matches!(judge, JudgeDefinition::Choice { .. });
    let odd = definition.judges.iter().find(|judge| reads_choices(judge) != definition.offers_choices());
    if let Some(judge) = odd {
        let (id, name) = (&definition.id, judge.names().swap_remove(0));
        return Err(match definition.offers_choices() {
            true => Error::input(format!("the questions of `{id}` offer choices, which `{name}` cannot judge"))
                .with_help("judge them by `choice_judge()`"),
            false => Error::input(format!("the questions of `{id}` offer no choices for `{name}`"))
                .with_help("give them `choices`, or use another judge"),
        });
    }
    Ok(())
}
