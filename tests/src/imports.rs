//! Which file of a crate imports which: for the claim that no two files import each other, over however many others.
//!
//! A module is a file. An import is a path in the program (tests are left out) that begins with `crate`, `self` or
//! `super`, or with a module that the file declares or has imported. It leads to the file that defines the item: what a
//! module passes on by `use` is followed to where it comes from. That a module declares its children and passes their
//! items on (`pub use`) is no import of them, unless it uses them itself; that a child uses what its parent defines is one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::sources::{Source, sources};

/// The files of a crate and their imports.
#[derive(Debug)]
pub struct Imports {
    files: Vec<File>,
    /// Of each file: the files that it imports, each with the first path that leads there.
    edges: Vec<BTreeMap<usize, String>>,
}

/// Files that import each other, directly or over others of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// Their paths, sorted.
    pub files: Vec<String>,
    /// The imports between them: from, to, the path that stands there.
    pub imports: Vec<(String, String, String)>,
}

/// A file as a module.
#[derive(Debug)]
struct File {
    path: String,
    /// From the crate: `["store", "row"]`; empty for the crate itself.
    module: Vec<String>,
    /// What `use` brings in, by the name it has here.
    names: BTreeMap<String, Vec<String>>,
    /// What `use` brings in by a glob.
    globs: Vec<Vec<String>>,
    /// The items that are defined here.
    items: BTreeSet<String>,
    /// The paths that are written here, without those that are only passed on.
    paths: Vec<Vec<String>>,
    /// The names of what is passed on.
    passed_on: BTreeSet<String>,
}

impl Imports {
    /// Of the crate in a folder of the repository.
    pub fn of(name: &str) -> Self {
        Self::of_sources(&sources(&format!("{name}/src")), &format!("{name}/src/"))
    }

    /// Of files whose paths begin with `root`.
    fn of_sources(sources: &[Source], root: &str) -> Self {
        // A program beside the library is a crate of its own.
        let program = format!("{root}main.rs");
        let ours = sources.iter().filter(|source| !source.is_test() && source.path != program);
        let files: Vec<File> = ours.map(|source| File::new(source, root)).collect();
        let mut imports = Self { edges: vec![BTreeMap::new(); files.len()], files };
        for from in 0..imports.files.len() {
            for path in imports.files[from].paths.clone() {
                if let Some(to) = imports.resolve(from, &path, 0).filter(|to| *to != from) {
                    imports.edges[from].entry(to).or_insert_with(|| path.join("::"));
                }
            }
        }
        imports
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files that `path` imports, by their paths.
    pub fn from(&self, path: &str) -> Vec<&str> {
        let file = self.files.iter().position(|file| file.path == path);
        file.map_or(vec![], |file| self.edges[file].keys().map(|to| self.files[*to].path.as_str()).collect())
    }

    /// All circles, the largest first.
    pub fn circles(&self) -> Vec<Circle> {
        let reached: Vec<BTreeSet<usize>> = (0..self.files.len()).map(|file| self.reached(file)).collect();
        let mut seen = BTreeSet::new();
        let mut circles = vec![];
        for file in 0..self.files.len() {
            let together: BTreeSet<usize> =
                reached[file].iter().copied().filter(|other| reached[*other].contains(&file)).collect();
            if together.len() > 1 && seen.insert(together.clone()) {
                circles.push(self.circle(&together));
            }
        }
        circles.sort_by_key(|circle| std::cmp::Reverse(circle.files.len()));
        circles
    }

    fn circle(&self, together: &BTreeSet<usize>) -> Circle {
        let path = |file: &usize| self.files[*file].path.clone();
        let imports = together.iter().flat_map(|from| {
            let inside = self.edges[*from].iter().filter(|(to, _)| together.contains(to));
            inside.map(move |(to, written)| (path(from), path(to), written.clone()))
        });
        Circle { files: together.iter().map(path).collect(), imports: imports.collect() }
    }

    /// The files that a file imports, directly or over others.
    fn reached(&self, file: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open = vec![file];
        while let Some(from) = open.pop() {
            open.extend(self.edges[from].keys().copied().filter(|to| reached.insert(*to)));
        }
        reached
    }

    /// The file that defines what `path` names in file `from`; absent for what is no part of the crate.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<usize> {
        // A path that is passed on in a circle leads nowhere.
        if depth > 16 {
            return None;
        }
        let file = &self.files[from];
        let mut rest = path;
        let mut module = file.module.clone();
        match path.first()?.as_str() {
            "crate" => (module, rest) = (vec![], &path[1..]),
            "self" => rest = &path[1..],
            "super" => {}
            first if self.child(&module, first).is_some() => {}
            first => {
                let target = file.names.get(first)?;
                // What is imported under its own name is written as a path that begins with it.
                let whole = [target, &path[1..]].concat();
                return (whole != path).then(|| self.resolve(from, &whole, depth + 1)).flatten();
            }
        }
        while rest.first().is_some_and(|part| part == "super") {
            module.pop()?;
            rest = &rest[1..];
        }
        let mut at = self.module(&module)?;
        while let Some(child) = rest.first().and_then(|part| self.child(&self.files[at].module, part)) {
            (at, rest) = (child, &rest[1..]);
        }
        let Some(name) = rest.first() else { return Some(at) };
        let here = &self.files[at];
        if here.items.contains(name) {
            return Some(at);
        }
        if let Some(target) = here.names.get(name) {
            let whole = [target, &rest[1..]].concat();
            return self.resolve(at, &whole, depth + 1).or(Some(at));
        }
        let through = here.globs.iter().find_map(|glob| {
            let target = self.resolve(at, glob, depth + 1)?;
            (target != at && self.files[target].items.contains(name)).then_some(target)
        });
        Some(through.unwrap_or(at))
    }

    fn module(&self, module: &[String]) -> Option<usize> {
        self.files.iter().position(|file| file.module == module)
    }

    fn child(&self, module: &[String], name: &str) -> Option<usize> {
        self.files
            .iter()
            .position(|file| file.module.split_last().is_some_and(|(last, parent)| last == name && parent == module))
    }
}

/// The files, one a line, and the imports between them.
impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} files import each other:", self.files.len())?;
        for (from, to, written) in &self.imports {
            writeln!(f, "  {from} -> {to} ({written})")?;
        }
        Ok(())
    }
}

impl File {
    fn new(source: &Source, root: &str) -> Self {
        let inner = source.path.strip_prefix(root).unwrap_or(&source.path);
        let mut module: Vec<String> = inner.trim_end_matches(".rs").split('/').map(String::from).collect();
        if module.last().is_some_and(|last| last == "mod" || (last == "lib" && module.len() == 1)) {
            module.pop();
        }
        let code: String = source.code().into_iter().map(|(_, line)| format!("{line}\n")).collect();
        let tokens = tokens(&code);
        let mut file = Self {
            path: source.path.clone(),
            module,
            names: BTreeMap::new(),
            globs: vec![],
            items: BTreeSet::new(),
            paths: vec![],
            passed_on: BTreeSet::new(),
        };
        file.read(&tokens);
        file
    }

    /// Takes in what the words and marks of the file say.
    fn read(&mut self, tokens: &[String]) {
        let text = |index: usize| tokens.get(index).map_or("", String::as_str);
        let mut words = BTreeSet::new();
        let mut index = 0;
        while index < tokens.len() {
            let before = if index == 0 { "" } else { text(index - 1) };
            match text(index) {
                // `pub(in crate::a)` says who may use something.
                "in" if before == "(" && index > 1 && text(index - 2) == "pub" => {
                    index = (index..tokens.len()).find(|at| text(*at) == ")").unwrap_or(tokens.len());
                }
                "use" => {
                    let end = (index..tokens.len()).find(|at| text(*at) == ";").unwrap_or(tokens.len());
                    // `pub use` and `pub(crate) use` pass something on.
                    let passed_on = before == "pub" || before == ")";
                    self.used(&tokens[index + 1..end], &[], passed_on);
                    index = end;
                }
                "struct" | "enum" | "trait" | "type" | "const" | "static" | "fn" | "union" => {
                    self.items.insert(text(index + 1).to_string());
                }
                "macro_rules" => {
                    self.items.insert(text(index + 2).to_string());
                }
                word if is_word(word) && text(index + 1) == "::" && !matches!(before, "::" | ".") => {
                    let mut path = vec![word.to_string()];
                    while text(index + 1) == "::" && is_word(text(index + 2)) {
                        path.push(text(index + 2).to_string());
                        index += 2;
                    }
                    self.paths.push(path);
                }
                word if is_word(word) && !matches!(before, "::" | "." | "mod") => {
                    words.insert(word);
                }
                _ => {}
            }
            index += 1;
        }
        // What is passed on and used here too.
        let used = self.passed_on.iter().filter(|name| words.contains(name.as_str()));
        self.paths.extend(used.filter_map(|name| self.names.get(name).cloned()));
    }

    /// Takes in what follows `use`, up to the semicolon, under the path `prefix`.
    fn used(&mut self, tokens: &[String], prefix: &[String], passed_on: bool) {
        let mut path = prefix.to_vec();
        let mut index = 0;
        while index < tokens.len() {
            match tokens[index].as_str() {
                "{" => {
                    let inner = &tokens[index + 1..tokens.len() - 1];
                    for part in split(inner) {
                        self.used(part, &path, passed_on);
                    }
                    return;
                }
                "*" => {
                    self.globs.push(path.clone());
                    if !passed_on {
                        self.paths.push(path);
                    }
                    return;
                }
                "as" => {
                    let name = tokens.get(index + 1).cloned().unwrap_or_default();
                    return self.named(name, path, passed_on);
                }
                "::" => {}
                word => path.push(word.to_string()),
            }
            index += 1;
        }
        // `use a::{self}` is `use a`.
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        if let Some(name) = path.last().cloned() {
            self.named(name, path, passed_on);
        }
    }

    fn named(&mut self, name: String, path: Vec<String>, passed_on: bool) {
        if passed_on {
            self.passed_on.insert(name.clone());
        } else {
            self.paths.push(path.clone());
        }
        self.names.insert(name, path);
    }
}

/// The parts between the commas of the outermost level.
fn split(tokens: &[String]) -> Vec<&[String]> {
    let (mut depth, mut start) = (0, 0);
    let mut parts = vec![];
    for (index, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 0 => {
                parts.push(&tokens[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&tokens[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words, `::` and single marks; texts, characters and comments are left out.
fn tokens(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut tokens = vec![];
    let mut index = 0;
    while index < chars.len() {
        let start = index;
        match at(index) {
            '/' if at(index + 1) == '/' => {
                while index < chars.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            '/' if at(index + 1) == '*' => {
                while index < chars.len() && !(at(index) == '*' && at(index + 1) == '/') {
                    index += 1;
                }
                index += 2;
            }
            // `r"..."`, `r#"..."#`, `br"..."`.
            'r' | 'b' if raw_text(&chars, index).is_some() => index = raw_text(&chars, index).unwrap_or(index + 1),
            '"' => {
                index += 1;
                while index < chars.len() && at(index) != '"' {
                    index += if at(index) == '\\' { 2 } else { 1 };
                }
                index += 1;
            }
            // A character, not a lifetime.
            '\'' if at(index + 1) == '\\' || at(index + 2) == '\'' => {
                index += if at(index + 1) == '\\' { 3 } else { 2 };
                while index < chars.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
            }
            first if first.is_alphanumeric() || first == '_' => {
                while at(index).is_alphanumeric() || at(index) == '_' {
                    index += 1;
                }
                tokens.push(chars[start..index].iter().collect());
            }
            ':' if at(index + 1) == ':' => {
                tokens.push("::".to_string());
                index += 2;
            }
            other => {
                if !other.is_whitespace() {
                    tokens.push(other.to_string());
                }
                index += 1;
            }
        }
    }
    tokens
}

/// The end of a raw text that begins at `start`, if one does.
fn raw_text(chars: &[char], start: usize) -> Option<usize> {
    let mut index = start + usize::from(chars[start] == 'b');
    if start > 0 && (chars[start - 1].is_alphanumeric() || chars[start - 1] == '_') || chars.get(index) != Some(&'r') {
        return None;
    }
    index += 1;
    let hashes = chars[index..].iter().take_while(|mark| **mark == '#').count();
    index += hashes;
    if chars.get(index) != Some(&'"') {
        return None;
    }
    let closes = |at: usize| {
        chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|mark| **mark == '#').count() == hashes
    };
    (index + 1..chars.len()).find(|at| closes(*at)).map(|at| at + 1 + hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(files: &[(&str, &str)]) -> Imports {
        let source = |(path, text): &(&str, &str)| Source { path: format!("x/src/{path}"), text: text.to_string() };
        Imports::of_sources(&files.iter().map(source).collect::<Vec<_>>(), "x/src/")
    }

    #[test]
    fn paths_lead_to_the_file_that_defines_the_item() {
        let imports = imports(&[
            ("lib.rs", "mod a;\nmod b;\nmod c;\npub use b::deep::Thing;\n"),
            ("a.rs", "use crate::b::{Thing as Other, deep::{self, X}};\nfn f() { crate::c::g(); \"crate::d\"; }\n"),
            ("b/mod.rs", "pub mod deep;\npub use deep::*;\n"),
            ("b/deep.rs", "pub(in crate::b) struct Thing;\npub struct X;\n// use crate::a::f;\n"),
            (
                "c.rs",
                "use crate::Thing;\npub fn g() { let x: 'static = r#\"super::b\"#; '\"'; }\n#[cfg(test)]\nmod tests;\n",
            ),
            ("c/tests.rs", "use crate::a::f;\n"),
        ]);
        assert_eq!(imports.from("x/src/a.rs"), ["x/src/b/deep.rs", "x/src/c.rs"]);
        assert_eq!(imports.from("x/src/c.rs"), ["x/src/b/deep.rs"]);
        assert_eq!(imports.from("x/src/lib.rs"), Vec::<&str>::new());
        assert_eq!((imports.circles(), imports.len()), (vec![], 5));
    }

    #[test]
    fn a_circle_is_found_over_any_number_of_files() {
        let imports = imports(&[
            ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\n"),
            ("a.rs", "use crate::b;\nfn f() { b::g() }\npub struct A;\n"),
            ("b.rs", "pub fn g() { crate::c::h() }\n"),
            ("c.rs", "pub fn h() { super::a::A; }\n"),
            ("d.rs", "use crate::a::A;\n"),
        ]);
        let [circle] = &imports.circles()[..] else { panic!("one circle") };
        assert_eq!(circle.files, ["x/src/a.rs", "x/src/b.rs", "x/src/c.rs"]);
        assert_eq!(circle.imports.len(), 3);
    }

    #[test]
    fn a_child_that_uses_its_parent_is_in_a_circle_only_if_the_parent_uses_the_child() {
        let parent = |body: &str| imports(&[("lib.rs", "mod p;\n"), ("p.rs", body), ("p/child.rs", "use super::P;\n")]);
        assert!(parent("mod child;\npub use child::C;\npub struct P;\n").circles().is_empty());
        assert_eq!(parent("mod child;\nuse child::C;\npub struct P;\n").circles().len(), 1);
        assert_eq!(parent("mod child;\npub struct P;\nfn f() { child::c() }\n").circles().len(), 1);
        assert_eq!(parent("mod child;\npub use child::C;\npub struct P;\nfn f(c: C) {}\n").circles().len(), 1);
    }
}
