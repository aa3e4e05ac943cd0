//! Which module names which, read from the sources.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

use crate::Sources;

/// `["store", "oss", "sign"]`; empty is the crate itself.
pub(crate) type Path = Vec<String>;

/// One file of `src`, tests aside.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// Absolute paths that it names.
    pub(crate) names: BTreeSet<Path>,
    /// What it passes on: name → the absolute path behind it.
    pub(crate) passes_on: BTreeMap<String, Path>,
}

/// All of them, by path.
#[derive(Debug)]
pub(crate) struct Modules(pub(crate) BTreeMap<Path, Module>);

impl Modules {
    /// Reads all files. Those of tests and of the fuzzer are left out: they may
    /// name anything, and nothing that is shipped has them.
    pub(crate) fn parse(sources: &Sources) -> Self {
        let mut modules = BTreeMap::new();
        for (name, text) in sources {
            let path = path_of(name);
            let of_tests = path.iter().any(|part| part == "tests" || part == "fuzzing");
            if name == "src/lib.rs" || of_tests {
                continue;
            }
            let file = syn::parse_file(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut reader = Reader { here: path.clone(), children: BTreeSet::new(), module: Module::default() };
            reader.read(&file.items);
            modules.insert(path, reader.module);
        }
        Self(modules)
    }

    /// The module in which the named thing is written.
    pub(crate) fn home(&self, path: &[String]) -> Option<&Path> {
        let mut path = path.to_vec();
        // Names are passed on a few times at most; more would be a circle.
        for _ in 0..8 {
            let depth = (0..=path.len()).rev().find(|&depth| self.0.contains_key(&path[..depth]))?;
            let (home, module) = self.0.get_key_value(&path[..depth])?;
            let Some(behind) = path.get(depth).and_then(|name| module.passes_on.get(name)) else { return Some(home) };
            path = behind.iter().chain(&path[depth + 1..]).cloned().collect();
        }
        None
    }

    /// From each module to those whose names it uses.
    pub(crate) fn edges(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.0.iter().flat_map(move |(path, module)| {
            module
                .names
                .iter()
                .filter_map(move |name| self.home(name))
                .filter(move |to| *to != path)
                .map(move |to| (path, to))
        })
    }
}

/// `src/store/oss/mod.rs` is `store::oss`.
fn path_of(name: &str) -> Path {
    let stem = name.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    stem.split('/').map(ToOwned::to_owned).collect()
}

struct Reader {
    /// The module of the items that are being read.
    here: Path,
    /// The modules that are declared there.
    children: BTreeSet<String>,
    module: Module,
}

impl Reader {
    fn read(&mut self, items: &[Item]) {
        let child = |item: &Item| if let Item::Mod(module) = item { Some(module.ident.to_string()) } else { None };
        self.children.extend(items.iter().filter_map(child));
        for item in items {
            self.visit_item(item);
        }
    }

    /// The absolute path, if it leads into this crate.
    fn absolute(&self, path: &[String]) -> Option<Path> {
        let mut base = self.here.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            // In main.rs the library is called by its name.
            "crate" | "chunkgate" => base.clear(),
            "self" => {}
            "super" => {
                while rest.first().is_some_and(|first| first == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
                return Some(base.into_iter().chain(rest.iter().cloned()).collect());
            }
            child if self.children.contains(child) => {
                return Some(base.into_iter().chain(path.iter().cloned()).collect());
            }
            _ => return None,
        }
        rest = &rest[1..];
        Some(base.into_iter().chain(rest.iter().cloned()).collect())
    }

    fn name(&mut self, path: &[String]) {
        let absolute = self.absolute(path).filter(|path| !path.is_empty());
        self.module.names.extend(absolute);
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String], passed_on: bool) {
        let joined = |name: &syn::Ident| prefix.iter().cloned().chain([name.to_string()]).collect::<Path>();
        let (path, alias) = match tree {
            UseTree::Path(path) => return self.import(&path.tree, &joined(&path.ident), passed_on),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(tree, prefix, passed_on));
            }
            UseTree::Glob(_) => (prefix.to_vec(), None),
            UseTree::Name(name) if name.ident == "self" => (prefix.to_vec(), prefix.last().cloned()),
            UseTree::Name(name) => (joined(&name.ident), Some(name.ident.to_string())),
            UseTree::Rename(rename) => (joined(&rename.ident), Some(rename.rename.to_string())),
        };
        match (passed_on, alias, self.absolute(&path)) {
            (true, Some(alias), Some(behind)) => {
                self.module.passes_on.insert(alias, behind);
            }
            _ => self.name(&path),
        }
    }

    /// Paths in a macro's tokens, which are not parsed.
    fn tokens(&mut self, tokens: &str) {
        for (at, _) in tokens.match_indices("crate ::") {
            let path = tokens[at..].split("::").map(str::trim);
            let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            let path: Path =
                path.map(|part| part.split(' ').next().unwrap_or("")).take_while(word).map(Into::into).collect();
            self.name(&path);
        }
    }
}

fn only_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let list = attribute.meta.require_list();
        attribute.path().is_ident("cfg") && list.is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let Some((_, items)) = module.content.as_ref().filter(|_| !only_for_tests(&module.attrs)) else { return };
        // A module within the file: its names are the file's.
        let (here, children) = (self.here.clone(), std::mem::take(&mut self.children));
        self.here.push(module.ident.to_string());
        self.read(items);
        (self.here, self.children) = (here, children);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !only_for_tests(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        if !only_for_tests(&block.attrs) {
            visit::visit_item_impl(self, block);
        }
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        if !only_for_tests(&import.attrs) {
            self.import(&import.tree, &[], !matches!(import.vis, Visibility::Inherited));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.name(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Path>());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(&call.tokens.to_string());
        visit::visit_macro(self, call);
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {
        // `pub(in crate::…)` and `pub(super)` name nothing.
    }
}
