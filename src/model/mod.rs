//! Networks: tokenizer, chat format, forward, backward and sampling.
