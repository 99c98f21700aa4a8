//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answer::Answer;
use super::error::{ApiError, ApiResult};
use super::question::Question;
use super::{Server, records, stream};
use crate::data::random::Random;
use crate::lab::Lab;
use crate::model::sample::{Prompt, SampleOptions};

/// The head of a response, whole or in pieces.
pub struct Head {
    /// `chatcmpl-…`.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model as it was asked for.
    pub model: String,
    /// Changes with model and program.
    pub fingerprint: String,
}

impl Head {
    /// A response, or a piece of one, with these choices.
    pub fn object(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "system_fingerprint": self.fingerprint, "service_tier": "default", "choices": choices,
        })
    }
}

/// Answers a request.
pub async fn complete(State(server): State<Arc<Server>>, body: Bytes) -> ApiResult<Response> {
    let question = Question::parse(&body)?;
    let served = server.model(&question.model).await?;
    let local = served.model.local()?;
    let ids = local.format.encode_prompt(&question.messages)?;
    let prompt_tokens = ids.len();
    let context = local.config.context;
    if prompt_tokens > context {
        let message = format!(
            "This model's maximum context length is {context} tokens. However, your messages resulted in {prompt_tokens} \
             tokens."
        );
        return Err(ApiError::invalid("messages", message).with_code("context_length_exceeded"));
    }
    // A seed nobody chose is one nobody can guess.
    let seed = question.seed.map_or_else(Lab::random, |seed| seed as u64);
    let prompts = (0..question.answers as u64).map(|index| {
        let seed = Random::stream(seed, &[index]).next_u64();
        Prompt { ids: ids.clone(), seed }
    });
    let options = SampleOptions {
        temperature: question.temperature,
        // None but the likeliest token, for those who write 0.
        top_p: question.top_p.max(f64::MIN_POSITIVE),
        max_tokens: question.max_tokens.unwrap_or(usize::MAX).min(context + 1),
        stop: local.format.stop().to_vec(),
        alternatives: question.logprobs.unwrap_or(0),
    };
    let completions = server.sampler.sample(&server.lab, &served, prompts.collect(), &options).await;
    let completions = completions.inspect_err(|_| server.forget_weights(&served))?;
    let answers: Vec<Answer> = completions
        .into_iter()
        .map(|completion| Answer::new(&local.format.tokenizer, completion, &question.stop))
        .collect();
    let completion_tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
    let usage = json!({
        "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    });
    let head = Head {
        id: records::new_id("chatcmpl-"),
        created: records::now(),
        model: question.model.clone(),
        fingerprint: served.fingerprint.clone(),
    };
    if question.stream {
        return Ok(stream::respond(&head, &answers, &question, usage));
    }
    let choices = answers.iter().enumerate().map(|(index, answer)| {
        json!({
            "index": index, "finish_reason": answer.finish,
            "message": { "role": "assistant", "content": answer.text, "refusal": null, "annotations": [] },
            "logprobs": question.logprobs.map(|_| Answer::logprobs(&answer.tokens)),
        })
    });
    let mut response = head.object("chat.completion", choices.collect());
    response["usage"] = usage;
    Ok(Json(response).into_response())
}
