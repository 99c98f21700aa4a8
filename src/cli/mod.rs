//! The commands: the only code that prints or exits.

mod cancel;
mod check;
mod data;
mod help;
mod output;
mod plan;
mod progress;
mod run;
mod serve;
mod session;
mod show;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::model::processor::Processor;

/// A whole alignment experiment in one short script: mix data, fine-tune, sample, judge, plot.
#[derive(Parser)]
#[command(name = "drylab", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a script: what is in the store is not done again
    Run(Script),
    /// Say what a run would do: what is cached, what would run
    Plan(Script),
    /// Check scripts without running anything
    Check(CheckArguments),
    /// List runs, or the jobs of one run
    Status(RunArguments),
    /// Show the report of a run
    Show(RunArguments),
    /// Stop a fine-tuning job at its provider
    Cancel(CancelArguments),
    /// Take over what other programs left
    #[command(subcommand)]
    Data(DataCommand),
    /// Serve local models to any OpenAI client: upload, fine-tune, chat
    Serve(ServeArguments),
    /// Explain a function, a module or a topic; without a name list them all
    Help(HelpArguments),
}

/// A script and everything that a run of it can be told.
#[derive(Args)]
pub(crate) struct Script {
    /// The script, for example scripts/a05b.rhai
    script: PathBuf,
    /// Give a parameter of the script another value, for example ratios=[0.0,0.5]
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Let the script read files below this folder too
    #[arg(long, value_name = "FOLDER")]
    read: Vec<PathBuf>,
    /// Calls that compute at a time [default: the machine's cores]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// What this command may spend at providers, in dollars; it stops before it would spend more
    #[arg(long, value_name = "DOLLARS")]
    budget_usd: Option<f64>,
    /// What computes the passes over models: cpu, cuda, cuda:1, metal or candle [default: drylab.toml's `device`, or cpu]
    #[arg(long, value_name = "NAME")]
    device: Option<Processor>,
    /// Buy again the fine-tuning jobs that failed or were cancelled
    #[arg(long)]
    relaunch: bool,
    /// Reach no provider: only what runs here and what is in the store
    #[arg(long)]
    offline: bool,
    /// Folder of the store [default: results/store]
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// Write one JSON object to standard output instead of tables
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Args)]
pub(crate) struct CheckArguments {
    /// The scripts
    #[arg(required = true)]
    scripts: Vec<PathBuf>,
    /// Write one JSON object to standard output
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct RunArguments {
    /// Name of a run (a05b-003) or of a script (a05b: its newest run)
    run: Option<String>,
    /// Write one JSON object to standard output
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct CancelArguments {
    /// Beginning of the launch's key, or the job's number, as `drylab status` lists them
    job: String,
}

#[derive(Subcommand)]
enum DataCommand {
    /// Enter the jobs of the published Python code (jobs/KEY.json), so that they are not bought again
    AdoptJobs(AdoptArguments),
}

#[derive(Args)]
pub(crate) struct AdoptArguments {
    /// The folder with the records
    folder: PathBuf,
    /// A folder with the rows that the jobs were launched on
    #[arg(long, value_name = "FOLDER")]
    rows: Vec<PathBuf>,
    /// The provider that has the jobs
    #[arg(long, value_name = "NAME", default_value = "openai")]
    provider: String,
}

#[derive(Args)]
pub(crate) struct ServeArguments {
    /// Serve the OpenAI-compatible endpoint: models, files, fine-tuning jobs, chat completions
    #[arg(long, required = true)]
    api: bool,
    /// Address to listen on; any but this machine's own needs `--token-env`
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,
    /// Environment variable with the token that every request must bear
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
    /// Serve the model in this folder too, or `hf:OWNER/NAME` of the hub, under its last name
    #[arg(long, value_name = "FOLDER")]
    model: Vec<String>,
    /// Trainings, and batches of answers, that compute at a time [default: the machine's cores]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// What computes the passes over models: cpu, cuda, cuda:1, metal or candle [default: drylab.toml's `device`, or cpu]
    #[arg(long, value_name = "NAME")]
    device: Option<Processor>,
    /// Folder of the store [default: results/store]
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct HelpArguments {
    /// A function (mix_dataset), a module (settings) or a topic (organism)
    name: Option<String>,
    /// The whole reference page as Markdown
    #[arg(long)]
    reference: bool,
}

/// Reads the command line and runs the command. Exit codes: 0 well, 1 the experiment failed, 2 bad input, 3 budget
/// reached, 130 interrupted.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no mistakes and go to standard output; clap knows which is which.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let code = match arguments.command {
        Command::Run(script) => run::run(&script),
        Command::Plan(script) => plan::plan(&script),
        Command::Check(arguments) => check::check(&arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Show(arguments) => show::show(&arguments),
        Command::Cancel(arguments) => cancel::cancel(&arguments),
        Command::Data(DataCommand::AdoptJobs(arguments)) => data::adopt(&arguments),
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Help(arguments) => help::help(&arguments),
    };
    ExitCode::from(if code == 0 && output::has_failed() { 1 } else { code })
}
