//! A page before it takes a form: headings, sentences, tables and charts as plain values, which `html` and `markdown` write out
//! and `table` shows in a terminal. What a page says is made elsewhere (`contents`, `regression`, advice); nothing is computed
//! here.

use crate::chart::Chart;

/// A page.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// What it is about.
    pub title: String,
    /// The answer, in a sentence or a few, before everything else.
    pub lead: Vec<String>,
    /// What was measured on what, in sentences.
    pub about: Vec<String>,
    /// The rest, in order.
    pub sections: Vec<Section>,
}

/// A heading and what stands below it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// The heading; an empty one is left out.
    pub heading: String,
    /// What stands below, in order.
    pub blocks: Vec<PageBlock>,
}

impl Section {
    /// A section of these blocks.
    pub fn new(heading: impl Into<String>, blocks: impl Into<Vec<PageBlock>>) -> Self {
        Self { heading: heading.into(), blocks: blocks.into() }
    }
}

/// A part of a section.
#[derive(Debug, Clone, PartialEq)]
pub enum PageBlock {
    /// A paragraph.
    Text(String),
    /// A paragraph in small letters.
    Note(String),
    /// Sentences, each with a bullet.
    List(Vec<String>),
    /// Names and what they mean.
    Terms(Vec<(String, String)>),
    /// A table.
    Table(Table),
    /// A table that is shown on demand, behind these words.
    Fold(String, Table),
    /// Charts, side by side where there is room. In Markdown only their fronts are named: their values stand in tables.
    Charts(Vec<Chart>),
}

/// A table: a head, and rows of as many cells.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The columns, from left to right; the first holds the rows' names.
    pub columns: Vec<Column>,
    /// The rows, from top to bottom.
    pub rows: Vec<TableRow>,
    /// Sentences below it.
    pub notes: Vec<String>,
}

impl Table {
    /// The same with what stands beneath values in columns of their own, each headed `head`: for a terminal.
    #[must_use]
    pub fn with_details_beside(self, head: &str) -> Self {
        let Self { columns, rows, notes } = self;
        let has_details: Vec<bool> = (0..columns.len()).map(|i| rows.iter().any(|row| !row.cells[i].detail.is_empty())).collect();
        let mut wide = Vec::new();
        for (column, details) in columns.into_iter().zip(&has_details) {
            let words = column.words;
            wide.push(column);
            wide.extend(details.then(|| Column { head: head.to_owned(), meaning: String::new(), words }));
        }
        let row = |row: TableRow| {
            let mut cells = Vec::new();
            for (mut cell, details) in row.cells.into_iter().zip(&has_details) {
                let detail = std::mem::take(&mut cell.detail);
                cells.push(cell);
                cells.extend(details.then(|| Cell::words(detail)));
            }
            TableRow { cells, marked: row.marked }
        };
        Self { columns: wide, rows: rows.into_iter().map(row).collect(), notes }
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Column {
    /// Its head, with the unit.
    pub head: String,
    /// What it means, in a few words; may be empty.
    pub meaning: String,
    /// Whether it holds words, which stand to the left; numbers stand to the right.
    pub words: bool,
}

impl Column {
    /// A column of numbers.
    pub fn numbers(head: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self { head: head.into(), meaning: meaning.into(), words: false }
    }

    /// A column of words.
    pub fn words(head: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self { head: head.into(), meaning: meaning.into(), words: true }
    }
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableRow {
    /// A cell a column.
    pub cells: Vec<Cell>,
    /// Whether it is set off from the others: the reference, or the pick.
    pub marked: bool,
}

/// A cell: a value, and beneath it its interval.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cell {
    /// The value; empty where there is none.
    pub text: String,
    /// The interval or range, where there is one.
    pub detail: String,
    /// What the page sorts by; words are sorted by their letters.
    pub order: Option<f64>,
}

impl Cell {
    /// Words.
    pub fn words(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A number as people read it, and its value to sort by.
    pub fn number(text: impl Into<String>, value: f64) -> Self {
        Self { text: text.into(), detail: String::new(), order: Some(value) }
    }

    /// The same with an interval or a range beneath.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}
