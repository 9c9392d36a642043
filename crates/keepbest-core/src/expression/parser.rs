//! Text to expression and its tokens back to text.

use super::{Binary, Operation};

/// Deepest nesting of parentheses and minus signs.
const MAX_DEPTH: usize = 100;

/// The text is not an expression. Positions are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpressionError {
    /// There is nothing in it.
    #[error("the expression is empty")]
    Empty,
    /// A metric, a number or `(` belongs here.
    #[error("expected a metric, a number or `(` at position {position}, found {found}")]
    ExpectedOperand {
        /// The position in the text.
        position: usize,
        /// The text that is there.
        found: String,
    },
    /// An operator or the end belongs here.
    #[error("expected `+`, `-`, `*`, `/` or the end at position {position}, found {found}")]
    ExpectedOperator {
        /// The position in the text.
        position: usize,
        /// The text that is there.
        found: String,
    },
    /// A parenthesis is not closed.
    #[error("the parenthesis opened at position {position} is not closed")]
    Unclosed {
        /// The place where it opens.
        position: usize,
    },
    /// A backquote is not closed.
    #[error("the backquote opened at position {position} is not closed")]
    UnclosedName {
        /// The place where it opens.
        position: usize,
    },
    /// A number cannot be read, or is not finite.
    #[error("`{text}` at position {position} is not a finite number")]
    NumberOutOfRange {
        /// The number as written.
        text: String,
        /// The position in the text.
        position: usize,
    },
    /// Parentheses or minus signs are nested too deeply.
    #[error("the expression is nested more than {limit} deep")]
    TooDeep {
        /// The most that is allowed.
        limit: usize,
    },
}

pub(super) fn parse(text: &str) -> Result<Vec<Operation>, ExpressionError> {
    if text.trim().is_empty() {
        return Err(ExpressionError::Empty);
    }
    let mut parser = Parser {
        text,
        position: 0,
        depth: 0,
        operations: Vec::new(),
    };
    parser.sum()?;
    parser.skip_space();
    match parser.peek() {
        None => Ok(parser.operations),
        Some(_) => Err(ExpressionError::ExpectedOperator {
            position: parser.position,
            found: parser.found(),
        }),
    }
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
    depth: usize,
    operations: Vec<Operation>,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.position..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_start().len();
    }

    /// What is at the position, for messages.
    fn found(&self) -> String {
        self.peek()
            .map_or_else(|| "the end".to_owned(), |c| format!("`{c}`"))
    }

    fn sum(&mut self) -> Result<(), ExpressionError> {
        self.chain(Self::product, |c| match c {
            '+' => Some(Binary::Add),
            '-' => Some(Binary::Subtract),
            _ => None,
        })
    }

    fn product(&mut self) -> Result<(), ExpressionError> {
        self.chain(Self::factor, |c| match c {
            '*' => Some(Binary::Multiply),
            '/' => Some(Binary::Divide),
            _ => None,
        })
    }

    fn chain(
        &mut self,
        operand: impl Fn(&mut Self) -> Result<(), ExpressionError>,
        operator: impl Fn(char) -> Option<Binary>,
    ) -> Result<(), ExpressionError> {
        operand(self)?;
        loop {
            self.skip_space();
            let Some(binary) = self.peek().and_then(&operator) else {
                return Ok(());
            };
            self.position += 1;
            operand(self)?;
            self.operations.push(Operation::Binary(binary));
        }
    }

    fn factor(&mut self) -> Result<(), ExpressionError> {
        self.skip_space();
        let start = self.position;
        match self.peek() {
            Some('-') => {
                self.position += 1;
                self.deeper(Self::factor)?;
                self.operations.push(Operation::Negate);
                Ok(())
            }
            Some('(') => {
                self.position += 1;
                self.deeper(Self::sum)?;
                self.skip_space();
                match self.peek() {
                    Some(')') => {
                        self.position += 1;
                        Ok(())
                    }
                    None => Err(ExpressionError::Unclosed { position: start }),
                    Some(_) => Err(ExpressionError::ExpectedOperator {
                        position: self.position,
                        found: self.found(),
                    }),
                }
            }
            Some('`') => self.quoted_name(),
            Some(c) if starts_name(c) => {
                let length = name_length(self.rest());
                let name = self.rest()[..length].to_owned();
                self.position += length;
                self.operations.push(Operation::Metric(name));
                Ok(())
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            _ => Err(ExpressionError::ExpectedOperand {
                position: start,
                found: self.found(),
            }),
        }
    }

    fn deeper(
        &mut self,
        inner: impl Fn(&mut Self) -> Result<(), ExpressionError>,
    ) -> Result<(), ExpressionError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpressionError::TooDeep { limit: MAX_DEPTH });
        }
        inner(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn quoted_name(&mut self) -> Result<(), ExpressionError> {
        let start = self.position;
        let mut name = String::new();
        self.position += 1;
        loop {
            let Some(end) = self.rest().find('`') else {
                return Err(ExpressionError::UnclosedName { position: start });
            };
            name.push_str(&self.rest()[..end]);
            self.position += end + 1;
            if self.peek() != Some('`') {
                break;
            }
            name.push('`');
            self.position += 1;
        }
        self.operations.push(Operation::Metric(name));
        Ok(())
    }

    fn number(&mut self) -> Result<(), ExpressionError> {
        let start = self.position;
        let rest = self.rest().as_bytes();
        let digits = |from: usize| {
            rest[from..]
                .iter()
                .take_while(|b| b.is_ascii_digit())
                .count()
        };
        let mut length = digits(0);
        if rest.get(length) == Some(&b'.') {
            length += 1 + digits(length + 1);
        }
        if matches!(rest.get(length), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.get(length + 1), Some(b'+' | b'-')));
            let exponent = digits(length + 1 + sign);
            if exponent > 0 {
                length += 1 + sign + exponent;
            }
        }
        let text = &self.rest()[..length];
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => {
                self.position += length;
                self.operations.push(Operation::Constant(value));
                Ok(())
            }
            _ => Err(ExpressionError::NumberOutOfRange {
                text: text.to_owned(),
                position: start,
            }),
        }
    }
}

fn starts_name(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

/// Length in bytes of the name that `text` begins with, 0 if it begins with none.
fn name_length(text: &str) -> usize {
    let mut length = 0;
    loop {
        let part = &text[length..];
        if !part.starts_with(starts_name) {
            // A slash that no name follows is a division.
            return length.saturating_sub(1);
        }
        length += part
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
            .unwrap_or(part.len());
        if !text[length..].starts_with('/') {
            return length;
        }
        length += 1;
    }
}

/// A name as the parser reads it back.
pub(super) fn quoted(name: &str) -> String {
    if !name.is_empty() && name_length(name) == name.len() {
        name.to_owned()
    } else {
        format!("`{}`", name.replace('`', "``"))
    }
}

/// A number (not negative) as the parser reads it back, exactly.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 || (1e-6..1e15).contains(&value) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}
