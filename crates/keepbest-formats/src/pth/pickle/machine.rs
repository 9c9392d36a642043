//! The pickle machine: opcodes to nodes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::PickleError as E;
use super::graph::{Global, Graph, Id, Node, Object};
use super::text::{self, Integer};

/// A pickle as read.
pub(crate) struct Parsed {
    pub graph: Graph,
    pub root: Id,
    pub protocol: u8,
    /// Bytes up to and with STOP; what follows is not part of the pickle.
    pub length: usize,
}

/// Reads the pickle at the beginning of `data`, with at most `limit` values.
///
/// Time and memory are linear in the length of the pickle.
pub(crate) fn parse(data: &Bytes, limit: usize) -> Result<Parsed, E> {
    let mut machine = Machine {
        data,
        at: 0,
        opcode_at: 0,
        limit: limit.min(u32::MAX as usize),
        graph: Graph::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        protocol: 0,
    };
    let root = machine.run()?;
    Ok(Parsed {
        graph: machine.graph,
        root,
        protocol: machine.protocol,
        length: machine.at,
    })
}

struct Machine<'a> {
    data: &'a Bytes,
    at: usize,
    /// The place of the current opcode, for errors.
    opcode_at: usize,
    limit: usize,
    graph: Graph,
    stack: Vec<Id>,
    /// Heights of the stack at each open MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    protocol: u8,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id, E> {
        loop {
            self.opcode_at = self.at;
            let [opcode] = self.array()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    let [protocol] = self.array()?;
                    if protocol > 5 {
                        return Err(E::Protocol { protocol });
                    }
                    self.protocol = protocol;
                }
                // Frames only tell how much to read at once.
                0x95 => {
                    self.array::<8>()?;
                }
                b'N' | 0x88 | 0x89 | b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'F'
                | b'G' => self.number(opcode)?,
                b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => {
                    self.text_or_bytes(opcode)?;
                }
                b'(' => {
                    self.bound(self.marks.len())?;
                    self.marks.push(self.stack.len());
                }
                b'0' => {
                    // POP takes a MARK if that is on top.
                    if self.marks.last() == Some(&self.stack.len()) {
                        self.marks.pop();
                    } else {
                        self.pop()?;
                    }
                }
                b'1' => {
                    self.pop_mark()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.bound(self.stack.len())?;
                    self.stack.push(top);
                }
                b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memory(opcode)?,
                b']'
                | b'l'
                | b')'
                | b't'
                | 0x85..=0x87
                | b'}'
                | b'd'
                | 0x8f
                | 0x91
                | b'a'
                | b'e'
                | b's'
                | b'u'
                | 0x90 => self.container(opcode)?,
                b'c' | 0x93 | b'i' | b'o' | b'R' | 0x81 | 0x92 | b'b' | b'P' | b'Q' => {
                    self.construction(opcode)?;
                }
                0x82..=0x84 => {
                    return Err(self.outside("the registry of extension codes"));
                }
                0x97 | 0x98 => return Err(self.outside("out-of-band buffers")),
                opcode => {
                    return Err(E::Opcode {
                        opcode,
                        at: self.opcode_at,
                    });
                }
            }
        }
    }

    fn number(&mut self, opcode: u8) -> Result<(), E> {
        let node = match opcode {
            b'N' => Node::None,
            0x88 => Node::Bool(true),
            0x89 => Node::Bool(false),
            b'J' => Node::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Node::Int(self.array::<1>()?[0].into()),
            b'M' => Node::Int(u16::from_le_bytes(self.array()?).into()),
            b'G' => Node::Float(f64::from_be_bytes(self.array()?)),
            0x8a => {
                let length = self.array::<1>()?[0].into();
                long(self.take(length)?)
            }
            0x8b => {
                let length = self.length4()?;
                long(self.take(length)?)
            }
            b'F' => {
                let line = self.line()?;
                let value = std::str::from_utf8(&line)
                    .ok()
                    .and_then(|text| text.trim().parse().ok());
                Node::Float(value.ok_or_else(|| self.malformed("not a number"))?)
            }
            _ => {
                let line = self.line()?;
                match (opcode, line.as_ref()) {
                    // How protocol 0 and 1 write truth values.
                    (b'I', b"00") => Node::Bool(false),
                    (b'I', b"01") => Node::Bool(true),
                    _ => match text::integer(&line) {
                        Some(Integer::Small(value)) => Node::Int(value),
                        Some(Integer::Big(bytes)) => Node::BigInt(bytes),
                        None => return Err(self.malformed("not an integer")),
                    },
                }
            }
        };
        self.push(node)
    }

    fn text_or_bytes(&mut self, opcode: u8) -> Result<(), E> {
        let node = match opcode {
            b'S' => {
                let line = self.line()?;
                let bytes = text::unquote(line.trim_ascii())
                    .ok_or_else(|| self.malformed("not a string literal"))?;
                str_of_python_2(bytes.into())
            }
            b'V' => {
                let line = self.line()?;
                let text =
                    text::raw_unicode(&line).ok_or_else(|| self.malformed("not a string"))?;
                Node::Str(text.into())
            }
            b'T' | b'U' => {
                let length = match opcode {
                    b'T' => self.length4()?,
                    _ => self.array::<1>()?[0].into(),
                };
                str_of_python_2(self.take(length)?)
            }
            b'X' | 0x8c | 0x8d => {
                let length = match opcode {
                    b'X' => self.length4()?,
                    0x8c => self.array::<1>()?[0].into(),
                    _ => self.length8()?,
                };
                Node::Str(utf8(&self.take(length)?))
            }
            _ => {
                let length = match opcode {
                    b'B' => self.length4()?,
                    b'C' => self.array::<1>()?[0].into(),
                    _ => self.length8()?,
                };
                Node::Bytes(self.take(length)?)
            }
        };
        self.push(node)
    }

    fn memory(&mut self, opcode: u8) -> Result<(), E> {
        let key = match opcode {
            b'p' | b'g' => {
                let line = self.line()?;
                std::str::from_utf8(&line)
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
                    .ok_or_else(|| self.malformed("not a memo index"))?
            }
            b'q' | b'h' => self.array::<1>()?[0].into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            // MEMOIZE; there are fewer entries than bytes.
            _ => self.memo.len() as u32,
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let value = self.memo.get(&key).copied();
            let value = value.ok_or_else(|| self.malformed("nothing at that memo index"))?;
            self.bound(self.stack.len())?;
            self.stack.push(value);
        } else {
            let top = self.top()?;
            self.bound(self.memo.len())?;
            self.memo.insert(key, top);
        }
        Ok(())
    }

    fn container(&mut self, opcode: u8) -> Result<(), E> {
        let node = match opcode {
            b']' => Node::List(Vec::new()),
            b'l' => Node::List(self.pop_mark()?),
            b')' => Node::Tuple(Vec::new()),
            b't' => Node::Tuple(self.pop_mark()?),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                Node::Tuple(self.pop_many(count)?)
            }
            b'}' => Node::Dict(Vec::new()),
            b'd' => {
                let values = self.pop_mark()?;
                Node::Dict(self.pairs(&values)?)
            }
            0x8f => Node::Set(Vec::new()),
            0x91 => Node::FrozenSet(self.pop_mark()?),
            b'a' => {
                let value = self.pop()?;
                return self.append(&[value]);
            }
            b'e' => {
                let values = self.pop_mark()?;
                return self.append(&values);
            }
            b's' => {
                let values = self.pop_many(2)?;
                return self.assign(&values);
            }
            b'u' => {
                let values = self.pop_mark()?;
                return self.assign(&values);
            }
            _ => {
                let values = self.pop_mark()?;
                return self.add(&values);
            }
        };
        self.push(node)
    }

    fn construction(&mut self, opcode: u8) -> Result<(), E> {
        match opcode {
            b'c' => {
                let global = self.global_lines()?;
                self.push(global)
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let (Some(module), Some(name)) =
                    (self.graph.as_str(names[0]), self.graph.as_str(names[1]))
                else {
                    return Err(self.malformed("a global whose names are not text"));
                };
                let (module, name) = (module.to_owned(), name.to_owned());
                let global = self.global(module, name);
                self.push(global)
            }
            b'i' => {
                let global = self.global_lines()?;
                let args = self.pop_mark()?;
                self.push(global)?;
                let callable = self.pop()?;
                self.object(callable, args)
            }
            b'o' => {
                let mut values = self.pop_mark()?;
                if values.is_empty() {
                    return Err(self.malformed("an object without a class"));
                }
                let callable = values.remove(0);
                self.object(callable, values)
            }
            b'R' | 0x81 => {
                let values = self.pop_many(2)?;
                self.object_of_tuple(values[0], values[1])
            }
            0x92 => {
                // NEWOBJ_EX has keyword arguments too: they stand as one more argument.
                let values = self.pop_many(3)?;
                let Some(args) = self.graph.as_tuple(values[1]) else {
                    return Err(self.malformed("arguments that are not a tuple"));
                };
                let mut args = args.to_vec();
                args.push(values[2]);
                self.object(values[0], args)
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                match &mut self.graph.nodes[target.0 as usize] {
                    Node::Object(object) => {
                        object.states.push(state);
                        Ok(())
                    }
                    _ => Err(self.malformed("a state for a value that has none")),
                }
            }
            b'P' => {
                let line = self.line()?;
                self.push(Node::Str(utf8(&line)))?;
                let id = self.pop()?;
                self.push(Node::Persistent(id))
            }
            _ => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))
            }
        }
    }

    /// The two lines of GLOBAL and INST.
    fn global_lines(&mut self) -> Result<Node, E> {
        let (module, name) = (self.line()?, self.line()?);
        let text = |line: &[u8]| std::str::from_utf8(line).ok().map(str::to_owned);
        let (Some(module), Some(name)) = (text(&module), text(&name)) else {
            return Err(self.malformed("a global whose names are not UTF-8"));
        };
        Ok(self.global(module, name))
    }

    fn global(&mut self, module: String, name: String) -> Node {
        self.graph.global(Global { module, name })
    }

    fn object_of_tuple(&mut self, callable: Id, args: Id) -> Result<(), E> {
        if self.graph.as_tuple(args).is_none() {
            return Err(self.malformed("arguments that are not a tuple"));
        }
        if let Node::Global(at) = self.graph.node(callable) {
            let at = *at as usize;
            self.graph.globals[at].calls += 1;
        }
        self.push(Node::Object(Box::new(Object {
            callable,
            args,
            elements: Vec::new(),
            items: Vec::new(),
            states: Vec::new(),
        })))
    }

    fn object(&mut self, callable: Id, args: Vec<Id>) -> Result<(), E> {
        self.push(Node::Tuple(args))?;
        let args = self.pop()?;
        self.object_of_tuple(callable, args)
    }

    fn append(&mut self, values: &[Id]) -> Result<(), E> {
        let target = self.top()?;
        match &mut self.graph.nodes[target.0 as usize] {
            Node::List(elements) => elements.extend_from_slice(values),
            Node::Object(object) => object.elements.extend_from_slice(values),
            _ => return Err(self.malformed("elements for a value that is no list")),
        }
        Ok(())
    }

    fn add(&mut self, values: &[Id]) -> Result<(), E> {
        let target = self.top()?;
        match &mut self.graph.nodes[target.0 as usize] {
            Node::Set(elements) => elements.extend_from_slice(values),
            Node::Object(object) => object.elements.extend_from_slice(values),
            _ => return Err(self.malformed("elements for a value that is no set")),
        }
        Ok(())
    }

    fn assign(&mut self, values: &[Id]) -> Result<(), E> {
        let pairs = self.pairs(values)?;
        let target = self.top()?;
        match &mut self.graph.nodes[target.0 as usize] {
            Node::Dict(items) => items.extend(pairs),
            Node::Object(object) => object.items.extend(pairs),
            _ => return Err(self.malformed("items for a value that is no dict")),
        }
        Ok(())
    }

    fn pairs(&self, values: &[Id]) -> Result<Vec<(Id, Id)>, E> {
        let (pairs, rest) = values.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key without a value"));
        }
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn push(&mut self, node: Node) -> Result<(), E> {
        let at = self.graph.nodes.len();
        self.bound(at)?;
        self.graph.nodes.push(node);
        self.stack.push(Id(at as u32));
        Ok(())
    }

    /// Nothing that grows with the pickle has more than `limit` of anything.
    fn bound(&self, length: usize) -> Result<(), E> {
        if length < self.limit {
            Ok(())
        } else {
            Err(E::TooManyValues { limit: self.limit })
        }
    }

    /// The lowest that the stack may get: not below the last MARK.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, E> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err(self.malformed("the stack is empty")),
        }
    }

    fn pop(&mut self) -> Result<Id, E> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, E> {
        if self.stack.len() - self.floor() < count {
            return Err(self.malformed("the stack is empty"));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, E> {
        let mark = self.marks.pop();
        let mark = mark.ok_or_else(|| self.malformed("there is no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, count: usize) -> Result<Bytes, E> {
        let end = self.at.saturating_add(count);
        if end > self.data.len() {
            return Err(E::Truncated { at: self.at });
        }
        let taken = self.data.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], E> {
        let array = self
            .data
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<N>())
            .ok_or(E::Truncated { at: self.at })?;
        self.at += N;
        Ok(*array)
    }

    fn length4(&mut self) -> Result<usize, E> {
        let length = u32::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| E::Truncated { at: self.at })
    }

    fn length8(&mut self) -> Result<usize, E> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| E::Truncated { at: self.at })
    }

    /// Up to the next line feed, which is taken and not returned.
    fn line(&mut self) -> Result<Bytes, E> {
        let rest = &self.data[self.at..];
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(E::Truncated {
                at: self.data.len(),
            })?;
        let line = self.take(length)?;
        self.at += 1;
        Ok(line)
    }

    fn malformed(&self, what: &'static str) -> E {
        E::Malformed {
            at: self.opcode_at,
            what,
        }
    }

    fn outside(&self, what: &'static str) -> E {
        E::Outside {
            at: self.opcode_at,
            what,
        }
    }
}

/// A little-endian two's complement integer.
fn long(bytes: Bytes) -> Node {
    if bytes.len() > 8 {
        return Node::BigInt(bytes);
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(&bytes);
    Node::Int(i64::from_le_bytes(wide))
}

/// Text as it is if it is UTF-8. Python also writes lone surrogates, which become U+FFFD.
fn utf8(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}

/// Python 2 did not tell text from bytes.
fn str_of_python_2(bytes: Bytes) -> Node {
    match std::str::from_utf8(&bytes) {
        Ok(text) => Node::Str(text.into()),
        Err(_) => Node::Bytes(bytes),
    }
}
