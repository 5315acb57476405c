//! Files that import each other.

use super::source::Source;
use super::{Files, room_of};
use std::collections::{BTreeMap, BTreeSet};

/// A file of the source tree as a path of modules: `src/log/mod.rs` is `["log"]`.
type Module = Vec<String>;

/// Pairs of files of these rooms that import each other, the first by name first. A module and one
/// within it may.
pub fn circles(files: &Files, rooms: &[&str]) -> BTreeSet<(String, String)> {
    let modules: BTreeMap<Module, &String> =
        files.keys().map(|path| (module_of(path), path)).collect();
    let mut imports = BTreeSet::new();
    for (module, path) in &modules {
        if !rooms.contains(&room_of(path)) {
            continue;
        }
        for named in Source::new(&files[*path]).paths() {
            let imported = resolve(module, &named, &modules);
            imports.extend(imported.map(|imported| (module, imported)));
        }
    }
    let is_circle = |(module, imported): &(&Module, &Module)| {
        let is_within = module.starts_with(imported) || imported.starts_with(module);
        module < imported && !is_within && imports.contains(&(*imported, *module))
    };
    let circles = imports.iter().copied().filter(is_circle);
    circles
        .map(|(module, imported)| (modules[module].clone(), modules[imported].clone()))
        .collect()
}

fn module_of(path: &str) -> Module {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    inside.split('/').map(str::to_owned).collect()
}

/// The file that a path written in `module` leads to.
fn resolve<'a>(
    module: &Module,
    path: &[String],
    modules: &'a BTreeMap<Module, &String>,
) -> Option<&'a Module> {
    let mut names = path.iter().map(String::as_str).peekable();
    let mut found = match names.next()? {
        "crate" => Module::new(),
        "super" => module[..module.len() - 1].to_vec(),
        _ => module.clone(),
    };
    while names.next_if_eq(&"super").is_some() {
        found.pop();
    }
    found.extend(names.map(str::to_owned));
    // The last names are those of items, or of modules written within a file.
    while !found.is_empty() {
        if let Some((module, _)) = modules.get_key_value(&found) {
            return Some(module);
        }
        found.pop();
    }
    None
}
