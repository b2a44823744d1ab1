//! TOML with positions: tables whose unknown keys are reported, fields that are read by one rule each.

use toml_edit::{Item, Table, TableLike, Value};

use crate::finding::{Report, did_you_mean};

/// A table, and where it is.
#[derive(Clone)]
pub(crate) struct Place<'a> {
    pub(crate) table: &'a dyn TableLike,
    pub(crate) path: String,
    /// Where the table begins: blamed for keys that are missing.
    pub(crate) at: usize,
}

/// A key's value, or an element of an array.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    pub(crate) path: String,
    pub(crate) at: usize,
    node: Node<'a>,
}

#[derive(Clone, Copy)]
enum Node<'a> {
    Item(&'a Item),
    Value(&'a Value),
    Table(&'a Table),
}

impl<'a> Place<'a> {
    pub(crate) fn root(table: &'a dyn TableLike) -> Self {
        Self { table, path: String::new(), at: 0 }
    }

    /// Reports every key that is not known here. Private keys have their own report already.
    pub(crate) fn only(&self, report: &mut Report, known: &[&str]) {
        for (key, item) in self.table.iter() {
            if !known.contains(&key) && !crate::keys::is_private(key) {
                let at = self.key_at(key, item);
                let allowed = format!("the keys {}", known.join(", "));
                let hint = did_you_mean(key, known.iter().copied());
                report.add_with_hint(at, &self.path_of(key), "an unknown key", allowed, hint);
            }
        }
    }

    /// The field of this name.
    pub(crate) fn field(&self, key: &str) -> Option<Field<'a>> {
        let item = self.table.get(key)?;
        let at = item.as_value().and_then(Value::span).map(|span| span.start);
        let at = at.unwrap_or_else(|| self.key_at(key, item));
        Some(Field { path: self.path_of(key), at, node: Node::Item(item) })
    }

    /// The field of this name, which must be there.
    pub(crate) fn required(&self, report: &mut Report, key: &str, allowed: &str) -> Option<Field<'a>> {
        let field = self.field(key);
        if field.is_none() {
            report.add(self.at, &self.path_of(key), "nothing", allowed);
        }
        field
    }

    /// The tables in the table of this name, with their own names.
    pub(crate) fn tables(&self, report: &mut Report, key: &str) -> Vec<(String, Place<'a>)> {
        let Some(field) = self.field(key) else {
            return Vec::new();
        };
        let Some(outer) = field.as_table(report) else {
            return Vec::new();
        };
        let names = outer.table.iter().map(|(name, _)| name.to_owned());
        let names: Vec<String> = names.filter(|name| !crate::keys::is_private(name)).collect();
        let inner = names.into_iter().filter_map(|name| {
            let place = outer.field(&name)?.as_table(report)?;
            Some((name, place))
        });
        inner.collect()
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    fn key_at(&self, key: &str, item: &Item) -> usize {
        let of_table = item.span().map(|span| span.start);
        // A table's header names it better than the first key that needed it did.
        let of_table = of_table.filter(|_| item.is_table() || item.is_array_of_tables());
        let of_key = self.table.get_key_value(key).and_then(|(key, _)| key.span());
        of_table.or_else(|| of_key.map(|span| span.start)).unwrap_or(self.at)
    }
}

impl<'a> Field<'a> {
    fn value(&self) -> Option<&'a Value> {
        match self.node {
            Node::Value(value) => Some(value),
            Node::Item(item) => item.as_value(),
            Node::Table(_) => None,
        }
    }

    /// Where the value is written.
    pub(crate) fn span(&self) -> Option<std::ops::Range<usize>> {
        self.value()?.span()
    }

    /// This as a table.
    pub(crate) fn as_table(&self, report: &mut Report) -> Option<Place<'a>> {
        let table: Option<&'a dyn TableLike> = match self.node {
            Node::Value(value) => value.as_inline_table().map(|table| -> &'a dyn TableLike { table }),
            Node::Item(item) => item.as_table_like(),
            Node::Table(table) => Some(table),
        };
        if table.is_none() {
            report.add(self.at, &self.path, self.show(), "a table");
        }
        Some(Place { table: table?, path: self.path.clone(), at: self.at })
    }

    /// A text that `parse` understands.
    pub(crate) fn text<T>(
        &self,
        report: &mut Report,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let parsed = self.value().and_then(Value::as_str).and_then(parse);
        if parsed.is_none() {
            report.add(self.at, &self.path, self.show(), allowed);
        }
        parsed
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&self, report: &mut Report, words: &[(&str, T)]) -> Option<T> {
        let text = self.value().and_then(Value::as_str);
        let found = words.iter().find(|(word, _)| Some(*word) == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = text.and_then(|text| did_you_mean(text, list.iter().copied()));
            let allowed = format!("one of {}", list.join(", "));
            report.add_with_hint(self.at, &self.path, self.show(), allowed, hint);
        }
        found
    }

    /// A whole number within `range`.
    pub(crate) fn number<T: TryFrom<i64>>(
        &self,
        report: &mut Report,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<T> {
        let number = self.value().and_then(Value::as_integer).filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let quotes = self.value().is_some_and(Value::is_str);
            let quotes = if quotes { ", without quotes" } else { "" };
            let allowed = if range.start() == range.end() {
                format!("{}{quotes}", range.start())
            } else {
                format!("a whole number from {} to {}{quotes}", range.start(), range.end())
            };
            report.add(self.at, &self.path, self.show(), allowed);
        }
        number
    }

    /// `true` or `false`.
    pub(crate) fn truth(&self, report: &mut Report) -> Option<bool> {
        let truth = self.value().and_then(Value::as_bool);
        if truth.is_none() {
            report.add(self.at, &self.path, self.show(), "true or false");
        }
        truth
    }

    /// The elements of a list with as many as `count` says; `[[name]]` tables are a list, too.
    pub(crate) fn list(
        &self,
        report: &mut Report,
        count: std::ops::RangeInclusive<usize>,
        of_what: &str,
    ) -> Option<Vec<Field<'a>>> {
        let elements = self.elements();
        if let Some(elements) = &elements
            && count.contains(&elements.len())
        {
            return Some(elements.clone());
        }
        let found = elements.map_or_else(|| self.show(), |elements| format!("a list of {}", elements.len()));
        let allowed = format!("a list of {} to {} {of_what}", count.start(), count.end());
        report.add(self.at, &self.path, found, allowed);
        None
    }

    fn elements(&self) -> Option<Vec<Field<'a>>> {
        let path = |index: usize| format!("{}[{index}]", self.path);
        let at = |span: Option<std::ops::Range<usize>>| span.map_or(self.at, |span| span.start);
        if let Node::Item(Item::ArrayOfTables(tables)) = self.node {
            let tables = tables.iter().enumerate().map(|(index, table)| Field {
                path: path(index),
                at: at(table.span()),
                node: Node::Table(table),
            });
            return Some(tables.collect());
        }
        let values = self.value()?.as_array()?.iter().enumerate().map(|(index, value)| Field {
            path: path(index),
            at: at(value.span()),
            node: Node::Value(value),
        });
        Some(values.collect())
    }

    /// What is there, in words or as it was written.
    pub(crate) fn show(&self) -> String {
        match self.value() {
            Some(Value::String(text)) => format!("{:?}", clip(text.value())),
            Some(Value::Integer(number)) => number.value().to_string(),
            Some(Value::Boolean(truth)) => truth.value().to_string(),
            Some(Value::Float(_)) => "a number with a fraction".to_owned(),
            Some(Value::Datetime(_)) => "a date".to_owned(),
            Some(Value::Array(_)) => "a list".to_owned(),
            Some(Value::InlineTable(_)) => "a table".to_owned(),
            None => match self.node {
                Node::Item(Item::ArrayOfTables(_)) => "a list of tables".to_owned(),
                Node::Item(_) | Node::Value(_) | Node::Table(_) => "a table".to_owned(),
            },
        }
    }
}

/// The path of a key in the table at `path`: safe to print, whatever the key is.
pub(crate) fn join(path: &str, key: &str) -> String {
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') && !key.is_empty();
    let key = if plain { clip(key) } else { format!("{:?}", clip(key)) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The beginning of a text that may be long.
pub(crate) fn clip(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain("...".chars()).collect()
}
