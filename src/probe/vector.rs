//! Runs a piece of arithmetic compiled for the best vector unit of this processor.

/// Arithmetic that is compiled once per vector unit; `run` and all that it calls must be `#[inline(always)]` or closures.
pub trait Task {
    /// The arithmetic; `FUSED` where a multiplication and an addition are one rounding.
    fn run<const FUSED: bool>(self);
}

/// Runs the task on the widest unit that is there. Results are equal on all units that fuse.
pub fn run(task: impl Task) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        fn wide(task: impl Task) {
            task.run::<true>();
        }
        #[target_feature(enable = "avx2,fma")]
        fn narrow(task: impl Task) {
            task.run::<true>();
        }
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq") && has!("fma") {
            // SAFETY: the features were found on this processor.
            return unsafe { wide(task) };
        }
        if has!("avx2") && has!("fma") {
            // SAFETY: as above.
            return unsafe { narrow(task) };
        }
    }
    task.run::<{ cfg!(target_arch = "aarch64") }>();
}
