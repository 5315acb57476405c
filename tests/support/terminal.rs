//! A terminal of its own for a command, as a person has one.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus};

/// A command at a terminal.
pub struct AtTerminal {
    child: Child,
    keyboard_and_screen: File,
    seen: Vec<u8>,
}

impl AtTerminal {
    /// Runs `command` at a terminal of so many columns and rows.
    pub fn run(mut command: Command, columns: u16, rows: u16) -> AtTerminal {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&main).unwrap();
        unlockpt(&main).unwrap();
        let name = ptsname(&main, Vec::new()).unwrap();
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(name.to_str().unwrap())
            .unwrap();
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).unwrap();
        command
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal);
        AtTerminal {
            child: command.spawn().unwrap(),
            keyboard_and_screen: File::from(main),
            seen: Vec::new(),
        }
    }

    /// Waits until all of `text` has been on the screen, and returns what was until then.
    pub fn until(&mut self, text: &str) -> String {
        while !self.text().contains(text) {
            let mut bytes = [0; 4096];
            let read = self.keyboard_and_screen.read(&mut bytes);
            match read {
                Ok(read @ 1..) => self.seen.extend(&bytes[..read]),
                // All sides that wrote are closed.
                _ => panic!("it ended without {text:?}: {}", self.text()),
            }
        }
        self.text()
    }

    /// Types `text`.
    pub fn type_in(&mut self, text: &str) {
        self.keyboard_and_screen.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until it ends by itself; its exit status, and all that was on the screen.
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        // What is left; an error is the end.
        let _ = self.keyboard_and_screen.read_to_end(&mut self.seen);
        let text = self.text();
        (status, text)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
