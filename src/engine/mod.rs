//! The scheduler of calls: lazy, shared when equal, as parallel as the machine.
