//! One training loop, its schedule, its optimizer and its objectives.
