//! The `millstream` command: everything it can do is under [`millstream::cli`].

fn main() -> std::process::ExitCode {
    millstream::cli::main()
}
