//! The program: hands over to the command line.

use std::process::ExitCode;

/// Training and sampling allocate and free large buffers; the system's allocator gives them back to the kernel each
/// time, which costs a third of the time in page faults (measured in candle.md of the design notes).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    drylab::cli::main()
}
