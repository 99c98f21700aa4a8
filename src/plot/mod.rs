//! Figures: one SVG drawing from which PNG and PDF derive.
