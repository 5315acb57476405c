//! Rust source as the tidy tests look at it: code apart from comments and strings.

/// One file, taken apart.
pub struct Source {
    /// The code with comments and the contents of strings and characters blanked out; as long as
    /// the file, with its line ends in place.
    pub code: String,
    /// Where strings begin, and what is in them: without quotes, with escapes as written.
    pub strings: Vec<(usize, String)>,
}

impl Source {
    pub fn new(text: &str) -> Source {
        let mut cutter = Cutter {
            rest: text,
            code: String::with_capacity(text.len()),
            strings: Vec::new(),
        };
        while !cutter.rest.is_empty() {
            cutter.step();
        }
        Source {
            code: cutter.code,
            strings: cutter.strings,
        }
    }

    /// The number of the line that byte `at` of the code lies in.
    pub fn line(&self, at: usize) -> usize {
        1 + self.code[..at].matches('\n').count()
    }

    /// Where `word` stands as a whole word.
    pub fn words(&self, word: &str) -> Vec<usize> {
        let found = self.code.match_indices(word).map(|(at, _)| at);
        found
            .filter(|at| {
                let before = self.code[..*at].chars().next_back();
                let after = self.code[at + word.len()..].chars().next();
                !before.is_some_and(is_word) && !after.is_some_and(is_word)
            })
            .collect()
    }

    /// The first names of all `crate::` paths, with their places: one for `crate::log::Log`, two for
    /// `crate::{io, log}`.
    pub fn crate_paths(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        for at in self.words("crate") {
            if let Some(rest) = self.code[at + "crate".len()..].strip_prefix("::") {
                paths.extend(heads(rest).into_iter().map(|head| (at, head)));
            }
        }
        paths
    }

    /// Paths of at least `depth` times `super::`, which leave the room: their place and first name.
    pub fn paths_above(&self, depth: usize) -> Vec<(usize, String)> {
        let prefix = "super::".repeat(depth);
        let mut paths = Vec::new();
        for (at, _) in self.code.match_indices(&prefix) {
            let rest = self.code[at + prefix.len()..].trim_start_matches("super::");
            paths.extend(heads(rest).into_iter().map(|head| (at, head)));
        }
        paths
    }

    /// All paths that begin with `crate`, `super` or `self`, with braces expanded: `super::{a::b, c}` is
    /// `["super", "a", "b"]` and `["super", "c"]`. Those in inline modules are left out.
    pub fn paths(&self) -> Vec<Vec<String>> {
        let inline = self.inline_modules();
        let mut paths = Vec::new();
        for first in ["crate", "super", "self"] {
            for at in self.words(first) {
                let begins = !self.code[..at].ends_with("::")
                    && self.code[at + first.len()..].starts_with("::");
                let is_inline = inline.iter().any(|module| module.contains(&at));
                if begins && !is_inline {
                    expand(&self.code[at..], &mut Vec::new(), &mut paths);
                }
            }
        }
        paths
    }

    /// Where the modules lie that are written within this file.
    fn inline_modules(&self) -> Vec<std::ops::Range<usize>> {
        let mut modules = Vec::new();
        for at in self.words("mod") {
            let name_at = at + "mod".len();
            let declared = self.code[name_at..].trim_start();
            let behind = declared[word_at_start(declared).len()..].trim_start();
            if behind.starts_with('{') {
                let open = self.code.len() - behind.len();
                modules.push(at..open + block_bytes(behind));
            }
        }
        modules
    }

    /// Modules that are in files of their own: `mod name;`.
    pub fn file_modules(&self) -> Vec<String> {
        let after = |at: usize| self.code[at + "mod".len()..].trim_start();
        self.words("mod")
            .into_iter()
            .filter_map(|at| {
                let name = word_at_start(after(at));
                let behind = after(at)[name.len()..].trim_start();
                (!name.is_empty() && behind.starts_with(';')).then(|| name.to_owned())
            })
            .collect()
    }
}

/// The first names of what a path prefix leads to: one, or those in braces.
fn heads(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return vec![word_at_start(rest).to_owned()];
    };
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut is_start = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            c if is_start && is_word(c) => {
                heads.push(word_at_start(&group[at..]).to_owned());
                is_start = false;
            }
            _ => {}
        }
    }
    heads
}

/// Adds the paths at the start of `text` that go on from `prefix`; returns the bytes they take.
fn expand(text: &str, prefix: &mut Vec<String>, paths: &mut Vec<Vec<String>>) -> usize {
    let depth = prefix.len();
    let mut at = 0;
    loop {
        let word = word_at_start(&text[at..]);
        if word.is_empty() {
            break;
        }
        prefix.push(word.to_owned());
        at += word.len();
        if !text[at..].starts_with("::") {
            break;
        }
        at += "::".len();
    }
    if text[at..].starts_with('{') {
        at += 1;
        while at < text.len() && !text[at..].starts_with('}') {
            let rest = &text[at..];
            at += if let Some(renamed) = rest.strip_prefix("as ") {
                "as ".len() + word_at_start(renamed).len()
            } else if rest.starts_with(is_word) {
                expand(rest, prefix, paths)
            } else {
                rest.chars().next().map_or(1, char::len_utf8)
            };
        }
        at += 1;
    } else {
        paths.push(prefix.clone());
    }
    prefix.truncate(depth);
    at
}

/// The length of a block that begins with a brace.
fn block_bytes(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

fn word_at_start(text: &str) -> &str {
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    &text[..end]
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Cutter<'a> {
    rest: &'a str,
    code: String,
    strings: Vec<(usize, String)>,
}

impl Cutter<'_> {
    fn step(&mut self) {
        let in_word = self.code.chars().next_back().is_some_and(is_word);
        if self.rest.starts_with("//") {
            self.blank(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.blank(block_comment_bytes(self.rest));
        } else if let Some((open, close)) = raw_string(self.rest).filter(|_| !in_word) {
            self.string(open, &close, false);
        } else if self.rest.starts_with('"') {
            self.string(1, "\"", true);
        } else if let Some(bytes) = character_bytes(self.rest) {
            self.blank(bytes);
        } else {
            let next = self.rest.chars().next().map_or(0, char::len_utf8);
            self.code.push_str(&self.rest[..next]);
            self.rest = &self.rest[next..];
        }
    }

    fn blank(&mut self, bytes: usize) {
        let (blanked, rest) = self.rest.split_at(bytes);
        let blank = |byte| if byte == b'\n' { '\n' } else { ' ' };
        self.code.extend(blanked.bytes().map(blank));
        self.rest = rest;
    }

    fn string(&mut self, open: usize, close: &str, has_escapes: bool) {
        let mut end = open;
        while end < self.rest.len() && !self.rest[end..].starts_with(close) {
            let is_escape = has_escapes && self.rest[end..].starts_with('\\');
            end += usize::from(is_escape);
            end += self.rest[end..].chars().next().map_or(0, char::len_utf8);
        }
        self.strings
            .push((self.code.len(), self.rest[open..end].to_owned()));
        self.blank((end + close.len()).min(self.rest.len()));
    }
}

/// Block comments nest.
fn block_comment_bytes(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match &text[at..] {
            rest if rest.starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            rest if rest.starts_with("*/") => (depth, at) = (depth - 1, at + 2),
            rest => at += rest.chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a raw string's opening and what closes it: `r#"`, `br"`.
fn raw_string(text: &str) -> Option<(usize, String)> {
    let after = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    after[hashes..].strip_prefix('"')?;
    let open = text.len() - after.len() + hashes + 1;
    Some((open, format!("\"{}", "#".repeat(hashes))))
}

/// A character literal's length; `None` for a lifetime.
fn character_bytes(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        // The escaped character may be a quote itself.
        return escape[1..].find('\'').map(|end| end + 4);
    }
    let c = inside.chars().next()?;
    inside[c.len_utf8()..]
        .starts_with('\'')
        .then_some(c.len_utf8() + 2)
}
