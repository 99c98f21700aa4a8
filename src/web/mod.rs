//! The OpenAI-compatible endpoint over local models.
