//! Puts a file at a provider once per content: its name there is the digest of its bytes.

use std::time::Duration;

use bytes::Bytes;

use super::{LaunchOptions, Wait, WaitReason, turn};
use crate::data::digest::Digest;
use crate::error::{Error, Result};
use crate::provider::fault::{Class, Fault};
use crate::provider::jobs::Jobs;
use crate::provider::settings::Dialect;
use crate::provider::sha256::sha256;
use crate::provider::wire::file::RemoteFile;
use crate::store::{Store, Upload};

/// The number of the file with these bytes, uploaded now where it is not there yet.
pub(super) async fn upload(
    store: &Store,
    jobs: &Jobs<'_>,
    identity: &str,
    bytes: &Bytes,
    options: &LaunchOptions<'_>,
) -> Result<String> {
    let provider = jobs.endpoint.name();
    let sha256 = sha256(bytes);
    // Jobs of one data set start together: the first uploads, the others wait for it.
    let key = Digest::of(format!("upload {provider} {identity} {sha256}").as_bytes());
    let _lock = turn::wait_for_lock(store, key, options).await?;
    let told = |fault: Fault| fault.into_error(provider);
    if let Some(known) = store.get_upload(provider, identity, &sha256)? {
        match jobs.file(&known.file_id).await {
            Ok(_) => return Ok(known.file_id),
            // Somebody deleted it.
            Err(fault) if fault.class == Class::NotFound => {}
            Err(fault) => return Err(told(fault)),
        }
    }
    let name = format!("{sha256}.jsonl");
    let file_id = match find(jobs, &name, bytes.len()).await.map_err(told)? {
        Some(file) => file.id,
        None => send(jobs, &name, bytes).await.map_err(told)?,
    };
    wait_until_read(jobs, &file_id, options).await?;
    let (identity, bytes) = (identity.to_string(), bytes.len() as u64);
    let created_at = (options.now)();
    store.put_upload(&Upload {
        provider: provider.to_string(),
        identity,
        sha256,
        bytes,
        file_id: file_id.clone(),
        created_at,
    })?;
    Ok(file_id)
}

async fn find(jobs: &Jobs<'_>, name: &str, bytes: usize) -> Result<Option<RemoteFile>, Fault> {
    // Together does not know a file's size until it has read it.
    let may_be_empty = jobs.endpoint.settings().dialect() == Dialect::Together;
    let is_it =
        |file: &RemoteFile| file.filename == name && (file.bytes == bytes as u64 || (may_be_empty && file.bytes == 0));
    Ok(jobs.files().await?.into_iter().find(is_it))
}

/// Uploads; a lost answer is no harm, because the file is found by its name.
async fn send(jobs: &Jobs<'_>, name: &str, bytes: &Bytes) -> Result<String, Fault> {
    let mut gap = Duration::from_millis(500);
    for tries in 1.. {
        match jobs.upload(name, bytes).await {
            Ok(file) => return Ok(file.id),
            Err(fault) if fault.is_retryable() && tries < jobs.endpoint.settings().most_tries => {
                jobs.wait(fault.retry_after.unwrap_or(gap)).await;
                gap = (gap * 2).min(Duration::from_secs(30));
                if let Some(file) = find(jobs, name, bytes.len()).await? {
                    return Ok(file.id);
                }
            }
            Err(fault) => return Err(fault),
        }
    }
    unreachable!("the last try returns")
}

/// Waits while the provider says that it is still reading the file: Azure refuses jobs until it has.
async fn wait_until_read(jobs: &Jobs<'_>, file_id: &str, options: &LaunchOptions<'_>) -> Result<()> {
    let provider = jobs.endpoint.name();
    for _ in 0..120 {
        let file = jobs.file(file_id).await.map_err(|fault| fault.into_error(provider))?;
        match file["status"].as_str() {
            Some("pending" | "running" | "notRunning" | "importing") => {
                (options.on_wait)(&Wait { reason: WaitReason::File, until: None });
                jobs.wait(Duration::from_secs(5)).await;
            }
            _ => return Ok(()),
        }
    }
    Err(Error::environment(format!("`{provider}` has been reading file `{file_id}` for ten minutes"))
        .with_help("run the same command again later: the file stays uploaded"))
}
