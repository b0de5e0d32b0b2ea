//! Makes the JSON Schema of what `--json` prints out of the types that are printed: names, kinds, and the sentences that
//! describe them. `sixgate schema` shows it.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::{Map, Value, json};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Fields, GenericArgument, Item, Lit, Meta, PathArguments, Token, Type};

/// Where the types are, from this crate's folder; of equal names the first one counts unless another is in the same file.
const SOURCES: [&str; 11] = [
    "../engine/src/status.rs",
    "../engine/src/status",
    "../engine/src/finding.rs",
    "../engine/src/facts.rs",
    "../engine/src/plan/mod.rs",
    "../engine/src/why.rs",
    "../engine/src/firewall/denial.rs",
    "src/control.rs",
    "src/backup.rs",
    "../engine/src/clat/status.rs",
    "../engine/src/clat/prefixes.rs",
];

fn main() {
    let mut types = Types::default();
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
        for file in files(Path::new(source)) {
            types.read(&file);
        }
    }
    let commands = commands(&mut types);
    types.complete();
    let all = json!({ "commands": commands, "defs": types.defs });
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("schema.json");
    fs::write(&out, all.to_string()).expect("the folder for what is made can be written");
}

/// What each command prints with `--json`; of those that print a line for each thing, a line.
fn commands(types: &mut Types) -> Map<String, Value> {
    let mut commands = Map::new();
    let list = |items: Value| json!({ "type": "array", "items": items });
    let mut add = |name: &str, schema: Value| drop(commands.insert(name.to_owned(), schema));
    add("status", types.refer("Status"));
    add("findings", list(types.refer("Finding")));
    add("neighbours", json!({ "type": "object", "additionalProperties": list(types.refer("Client")) }));
    add("leases", types.refer("Uplink"));
    add("sessions", types.refer_in("status.rs", "Session"));
    add("denials", list(types.refer("Denial")));
    add("why", list(types.refer("Step")));
    add("history", list(types.refer("PastConfiguration")));
    add("log", types.refer("Event"));
    add("ping", types.refer("Probe"));
    add("trace", types.refer("Probe"));
    add("resolve", types.refer("Resolved"));
    add("clat-status", types.refer_in("clat/status.rs", "Status"));
    let version = json!({ "const": 1 });
    add(
        "check",
        json!({ "type": "object", "required": ["version", "valid"], "properties": {
            "version": version, "valid": { "type": "boolean" },
            "plan": { "type": "string", "description": "What a right file leads to, for people." },
            "errors": { "type": "string", "description": "Everything that is wrong, for people." },
        } }),
    );
    let envelope = json!({ "type": "object", "required": ["version"], "properties": { "version": version } });
    add("reply", json!({ "allOf": [envelope, types.refer("Reply")] }));
    add(
        "request",
        json!({ "type": "object", "required": ["version", "request"],
            "properties": { "version": version, "request": types.refer("Request") } }),
    );
    commands
}

/// A source file, or those of a folder.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    files
}

/// The types that were read, and the schemas of those that are printed.
#[derive(Default)]
struct Types {
    /// By name, with the file that each is in.
    items: BTreeMap<String, Vec<(String, Item)>>,
    defs: BTreeMap<String, Value>,
    /// Named and not described yet: the definition's name, and the type.
    wanted: Vec<(String, Item, String)>,
    named: BTreeSet<String>,
}

impl Types {
    fn read(&mut self, path: &Path) {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let place = path.to_string_lossy();
        let place = place.split_once("src/").map_or(&*place, |(_, place)| place).to_owned();
        for item in file.items {
            let name = match &item {
                Item::Struct(item) => item.ident.to_string(),
                Item::Enum(item) => item.ident.to_string(),
                _ => continue,
            };
            self.items.entry(name).or_default().push((place.clone(), item));
        }
    }

    fn refer(&mut self, name: &str) -> Value {
        self.refer_in("", name)
    }

    /// A reference to a type, of that file if there are several. What is defined elsewhere may be anything.
    fn refer_in(&mut self, place: &str, name: &str) -> Value {
        let Some(known) = self.items.get(name) else { return json!({ "description": format!("A {name}.") }) };
        let (file, item) = known.iter().find(|(file, _)| file == place).unwrap_or(&known[0]).clone();
        // Where two files have a type of that name, the second one is called after its file.
        let label = if known[0].0 == file {
            name.to_owned()
        } else {
            format!("{}.{name}", file.trim_end_matches(".rs").replace('/', "."))
        };
        if self.named.insert(label.clone()) {
            self.wanted.push((label.clone(), item, file));
        }
        json!({ "$ref": format!("#/$defs/{label}") })
    }

    /// Describes everything that was referred to.
    fn complete(&mut self) {
        while let Some((label, item, place)) = self.wanted.pop() {
            let schema = match &item {
                Item::Struct(item) => {
                    let mut schema = self.fields(&item.fields, &item.attrs, &place);
                    describe(&mut schema, &item.attrs);
                    schema
                }
                Item::Enum(item) => self.variants(item, &place),
                _ => Value::Bool(true),
            };
            self.defs.insert(label, schema);
        }
    }

    /// A struct, or the content of a variant.
    fn fields(&mut self, fields: &Fields, attributes: &[Attribute], place: &str) -> Value {
        let named = match fields {
            Fields::Named(named) => named,
            Fields::Unnamed(unnamed) => {
                return unnamed.unnamed.first().map_or(json!({}), |field| self.kind(&field.ty, place));
            }
            Fields::Unit => return json!({}),
        };
        let rename = serde(attributes, "rename_all");
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in &named.named {
            let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
            let name = serde(&field.attrs, "rename").unwrap_or_else(|| renamed(&name, rename.as_deref()));
            let mut schema = self.kind(&field.ty, place);
            describe(&mut schema, &field.attrs);
            // What is printed has all of its fields, but for those that are left out when there is nothing in them.
            if serde(&field.attrs, "skip_serializing_if").is_none() {
                required.push(name.clone());
            }
            properties.insert(name, schema);
        }
        json!({ "type": "object", "properties": properties, "required": required })
    }

    fn variants(&mut self, item: &syn::ItemEnum, place: &str) -> Value {
        let (rename, tag) = (serde(&item.attrs, "rename_all"), serde(&item.attrs, "tag"));
        let mut each = Vec::new();
        for variant in &item.variants {
            let name = renamed(&variant.ident.to_string(), rename.as_deref());
            let content = self.fields(&variant.fields, &[], place);
            let mut schema = match (&tag, &variant.fields) {
                (None, Fields::Unit) => json!({ "const": name }),
                (None, Fields::Named(_) | Fields::Unnamed(_)) => {
                    json!({ "type": "object", "properties": { name.clone(): content }, "required": [name],
                        "additionalProperties": false })
                }
                (Some(tag), _) => tagged(content, tag, &name),
            };
            describe(&mut schema, &variant.attrs);
            each.push(schema);
        }
        let mut schema = json!({ "oneOf": each });
        describe(&mut schema, &item.attrs);
        schema
    }

    /// What a field of that type holds.
    fn kind(&mut self, kind: &Type, place: &str) -> Value {
        match kind {
            Type::Tuple(tuple) => {
                let parts: Vec<Value> = tuple.elems.iter().map(|part| self.kind(part, place)).collect();
                json!({ "type": "array", "minItems": parts.len(), "maxItems": parts.len(), "prefixItems": parts })
            }
            Type::Path(path) => {
                let Some(last) = path.path.segments.last() else { return json!({}) };
                let arguments = match &last.arguments {
                    PathArguments::AngleBracketed(arguments) => arguments.args.iter().collect(),
                    PathArguments::None | PathArguments::Parenthesized(_) => Vec::new(),
                };
                let arguments: Vec<&Type> = arguments
                    .into_iter()
                    .filter_map(|argument| if let GenericArgument::Type(kind) = argument { Some(kind) } else { None })
                    .collect();
                self.named_kind(&last.ident.to_string(), &arguments, place)
            }
            _ => json!({}),
        }
    }

    fn named_kind(&mut self, name: &str, arguments: &[&Type], place: &str) -> Value {
        match (name, arguments) {
            ("String" | "Cow", _) => json!({ "type": "string" }),
            ("Value", _) => json!({}),
            ("bool", _) => json!({ "type": "boolean" }),
            ("u8" | "u16" | "u32" | "u64" | "usize", _) => json!({ "type": "integer", "minimum": 0 }),
            ("i8" | "i16" | "i32" | "i64" | "isize", _) => json!({ "type": "integer" }),
            ("f32" | "f64", _) => json!({ "type": "number" }),
            ("IpAddr" | "Ipv4Addr" | "Ipv6Addr" | "MacAddr", _) => {
                json!({ "type": "string", "description": "An address." })
            }
            ("SocketAddr" | "SocketAddrV4" | "SocketAddrV6", _) => {
                json!({ "type": "string", "description": "An address and a port." })
            }
            ("IpNet" | "Ipv4Net" | "Ipv6Net", _) => json!({ "type": "string", "description": "A prefix." }),
            ("Option", [inner]) => json!({ "anyOf": [self.kind(inner, place), { "type": "null" }] }),
            ("Box" | "Arc", [inner]) => self.kind(inner, place),
            ("Vec" | "BTreeSet" | "VecDeque", [inner]) => json!({ "type": "array", "items": self.kind(inner, place) }),
            ("BTreeMap", [_, value]) => {
                json!({ "type": "object", "additionalProperties": self.kind(value, place) })
            }
            (other, _) => self.refer_in(place, other),
        }
    }
}

/// A variant whose name stands beside its fields.
fn tagged(mut content: Value, tag: &str, name: &str) -> Value {
    if let Some(object) = content.as_object_mut() {
        object.insert("type".to_owned(), json!("object"));
        let properties = object.entry("properties").or_insert_with(|| json!({}));
        properties[tag] = json!({ "const": name });
        let required = object.entry("required").or_insert_with(|| json!([]));
        required.as_array_mut().map(|required| required.push(json!(tag))).unwrap_or_default();
    }
    content
}

/// Adds the sentence that stands above it in the source.
fn describe(schema: &mut Value, attributes: &[Attribute]) {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => text(&meta.value),
        Meta::NameValue(_) | Meta::Path(_) | Meta::List(_) => None,
    });
    let sentence = lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>().join(" ");
    if let (Some(object), false) = (schema.as_object_mut(), sentence.is_empty()) {
        object.insert("description".to_owned(), json!(sentence));
    }
}

/// What `#[serde(..)]` says under a name; an empty text where it only says the name.
fn serde(attributes: &[Attribute], name: &str) -> Option<String> {
    let metas = attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("serde"))
        .filter_map(|attribute| attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok());
    let mut found = metas.flatten().filter(|meta| meta.path().is_ident(name));
    match found.next()? {
        Meta::NameValue(meta) => text(&meta.value),
        Meta::Path(_) | Meta::List(_) => Some(String::new()),
    }
}

fn text(value: &Expr) -> Option<String> {
    match value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// A name as serde writes it.
fn renamed(name: &str, rule: Option<&str>) -> String {
    let separated = |separator: char| {
        let mut out = String::new();
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && !out.is_empty() {
                out.push(separator);
            }
            out.push(if letter == '_' { separator } else { letter.to_ascii_lowercase() });
        }
        out
    };
    match rule {
        Some("kebab-case") => separated('-'),
        Some("snake_case") => separated('_'),
        Some("lowercase") => name.to_lowercase(),
        Some(_) | None => name.to_owned(),
    }
}
