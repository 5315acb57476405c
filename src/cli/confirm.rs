//! The question before something is destroyed.

use crate::cli::exit::{Exit, Failure};
use std::io::{self, BufRead, IsTerminal, Write};

/// A flag of all commands that destroy something.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Consent {
    /// Do not ask before it is done; without a terminal nothing is asked
    #[arg(long, short)]
    yes: bool,
}

impl Consent {
    /// Asks the person at the terminal whether to do `what`, and fails unless the answer is yes. A script
    /// has nobody who could answer: it is not asked, so that it never waits.
    pub fn ask(&self, what: &str) -> anyhow::Result<()> {
        if self.yes || !io::stdin().is_terminal() {
            return Ok(());
        }
        if !io::stderr().is_terminal() {
            let why =
                format!("cannot ask whether to {what}: nobody sees standard error. Say --yes");
            return Err(Failure::usage(why).into());
        }
        let mut stderr = io::stderr().lock();
        write!(stderr, "{what}? [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if is_yes(&answer) {
            return Ok(());
        }
        Err(Failure::new(Exit::Failed, "nothing was done").into())
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn only_yes_is_yes() {
        for answer in ["y\n", "Yes\n", " YES "] {
            assert!(is_yes(answer), "{answer:?}");
        }
        for answer in ["", "\n", "n\n", "yeah\n", "yy\n"] {
            assert!(!is_yes(answer), "{answer:?}");
        }
    }
}
