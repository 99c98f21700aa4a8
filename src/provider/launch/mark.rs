//! The marks of an attempt by which its job is found again: metadata, and the end of the model's name.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::data::digest::Digest;
use crate::provider::wire::job::Job;
use crate::store::Launch;

/// Name of the pair that holds the key of a purchase.
pub(super) const KEY: &str = "drylab_key";
/// Name of the pair that holds the attempt.
pub(super) const ATTEMPT: &str = "drylab_launch";

/// Digits of the attempt at the end of a suffix.
const DIGITS: usize = 8;

/// A mark that no other attempt has: 32 hexadecimal digits.
pub(super) fn new_attempt(key: Digest, now: SystemTime) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // The standard library's hasher carries random numbers of the machine; time, process and count do the rest.
    let random = RandomState::new();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let numbers = [random.hash_one(0u8), random.hash_one(1u8), RandomState::new().build_hasher().finish(), count];
    let text = format!("drylab attempt {key} {now:?} {} {numbers:?}", std::process::id());
    Digest::of(text.as_bytes()).to_string()[..32].to_string()
}

/// The end of the model's name: what the user wants, or `drylab`, and eight digits of the attempt.
pub(super) fn suffix_of(wanted: Option<&str>, attempt: &str, longest: usize) -> String {
    let plain: String = wanted
        .unwrap_or_default()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
        .take(longest - DIGITS - 1)
        .collect();
    let plain = plain.trim_matches('-');
    format!("{}-{}", if plain.is_empty() { "drylab" } else { plain }, &attempt[..DIGITS])
}

/// The pairs that a job carries.
pub(super) fn metadata_of(key: Digest, attempt: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(KEY.to_string(), key.to_string()), (ATTEMPT.to_string(), attempt.to_string())])
}

/// Whether anybody's drylab launched a job.
pub(super) fn is_ours(job: &Job, suffixes: &[&str]) -> bool {
    job.metadata.as_ref().is_some_and(|pairs| pairs.contains_key(ATTEMPT))
        || suffixes.iter().any(|suffix| has_suffix(job, suffix))
}

/// Whether a job came of an attempt.
pub(super) fn is_of(job: &Job, launch: &Launch) -> bool {
    if let Some(attempt) = job.metadata.as_ref().and_then(|pairs| pairs.get(ATTEMPT)) {
        return *attempt == launch.attempt;
    }
    // Eight digits are few: what else is known of the job must fit too.
    let fits = |theirs: &str, ours: &str| theirs.is_empty() || theirs == ours;
    has_suffix(job, &launch.suffix) && fits(&job.training_file, &launch.file_id)
}

fn has_suffix(job: &Job, suffix: &str) -> bool {
    // `ft:model:organisation:suffix:number`, and `account/model-suffix-number` at Together.
    let in_name = |name: &str| {
        name.split([':', '/']).any(|part| {
            part == suffix || part.ends_with(&format!("-{suffix}")) || part.contains(&format!("-{suffix}-"))
        })
    };
    let other = |name: &str| job.other.get(name).and_then(serde_json::Value::as_str);
    // OpenAI shows the suffix of the request under another name.
    let is_it = job.suffix.as_deref().or(other("user_provided_suffix")) == Some(suffix)
        || job.fine_tuned_model.as_deref().or(other("model_output_name")).is_some_and(in_name);
    // Jobs of the Python code were launched without one.
    is_it && !suffix.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_two_attempts_are_alike() {
        let key = Digest::of(b"k");
        let attempts: std::collections::HashSet<_> =
            (0..1000).map(|_| new_attempt(key, SystemTime::UNIX_EPOCH)).collect();
        assert_eq!(attempts.len(), 1000);
        assert!(attempts.iter().all(|attempt| attempt.len() == 32));
    }

    #[test]
    fn suffixes_are_short_and_plain_and_end_in_the_attempt() {
        let attempt = "0123456789abcdef0123456789abcdef";
        assert_eq!(suffix_of(None, attempt, 64), "drylab-01234567");
        assert_eq!(suffix_of(Some("Évil (run 2)"), attempt, 64), "vil--run-2-01234567");
        for longest in [18, 40, 64] {
            assert!(suffix_of(Some(&"x".repeat(100)), attempt, longest).len() <= longest);
        }
    }

    #[test]
    fn a_job_is_known_by_its_metadata_and_else_by_its_name() {
        let job = |fields: serde_json::Value| {
            let mut whole = json!({ "id": "j", "status": "running" });
            whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            serde_json::from_value::<Job>(whole).unwrap()
        };
        let launch = super::super::tests::row("0123456789abcdef0123456789abcdef", "drylab-01234567");
        let known = |fields| is_of(&job(fields), &launch);
        assert!(known(json!({ "metadata": { "drylab_launch": launch.attempt } })));
        // Another attempt with the same digits in its name, which cannot be chosen by hand.
        assert!(!known(json!({ "metadata": { "drylab_launch": "01234567" }, "suffix": "drylab-01234567" })));
        assert!(known(json!({ "metadata": {}, "suffix": "drylab-01234567" })));
        assert!(known(json!({ "suffix": "drylab-01234567", "training_file": "file-1" })));
        assert!(known(json!({ "suffix": null, "user_provided_suffix": "drylab-01234567" })));
        assert!(!known(json!({ "user_provided_suffix": "drylab-01234568" })));
        assert!(!known(json!({ "suffix": "drylab-01234567", "training_file": "file-2" })));
        assert!(known(json!({ "fine_tuned_model": "ft:gpt-4.1:org:drylab-01234567:Ab1" })));
        assert!(known(json!({ "model_output_name": "me/Llama-2-7b-drylab-01234567-32162631" })));
        assert!(!known(json!({ "fine_tuned_model": "ft:gpt-4.1:org:drylab-012345678:Ab1" })));
        assert!(!known(json!({})));
        let adopted = super::super::tests::row("0123456789abcdef0123456789abcdef", "");
        assert!(!is_of(&job(json!({ "suffix": "", "fine_tuned_model": "ft:gpt-4.1:org::Ab1" })), &adopted));
    }
}
