//! The `millstream` command: everything it can do is under [`millstream::cli`].

use millstream::io::memory::{self, Allocator};

#[global_allocator]
static ALLOCATOR: Allocator = memory::ALLOCATOR;

fn main() -> std::process::ExitCode {
    millstream::cli::main()
}
