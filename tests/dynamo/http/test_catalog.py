"""The tables that documentation is made from say what the code reads, writes and raises: all of it,
and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dynamo.http
from dynamo import errors
from dynamo.errors import DynamoError
from dynamo.http import parameters
from dynamo.http.catalog import (
    COMMON_HEADERS,
    COUNT_WORDS,
    PARAMETERS,
    PATH_PARAMETERS,
    REPLY_HEADERS,
    REQUEST_HEADERS,
)
from dynamo.http.codes import COMMON_ERRORS, ERRORS
from dynamo.http.errors import STATUSES
from dynamo.http.operations import OBJECT
from dynamo.http.parameters import NONE, PARAMETER_NAMES, Parameters
from dynamo.http.routes import ROUTES
from dynamo.http.schemas import SCHEMAS

HTTP = Path(dynamo.http.__file__).parent
#: Modules that describe, and so name what they do not read.
DESCRIBING = ("catalog", "codes", "operations", "openapi", "schemas", "document", "prose")
TREES = [
    ast.parse(path.read_text()) for path in sorted(HTTP.glob("*.py")) if path.stem not in DESCRIBING
]
OPERATIONS = [
    (route, method, operation) for route in ROUTES for method, operation in route.operations.items()
]


def _nodes() -> Iterator[ast.AST]:
    for tree in TREES:
        yield from ast.walk(tree)


def _texts() -> Iterator[str]:
    """Every literal of the package that is no docstring, bytes as text."""
    docstrings = {
        id(node.body[0].value)
        for tree in TREES
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and isinstance(node.body[0], ast.Expr)
    }
    for node in _nodes():
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            if isinstance(node.value, bytes):
                yield node.value.decode("latin-1")
            elif isinstance(node.value, str):
                yield node.value


def _raised_codes() -> Iterator[tuple[int, str]]:
    """(status, code) of every `Refusal(...)`."""
    for node in _nodes():
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refusal":
            status, code, *_ = node.args
            assert isinstance(status, ast.Constant)
            assert isinstance(code, ast.Constant), "a code is written out, so that it can be found"
            yield status.value, code.value  # type: ignore[misc]


def _told_codes() -> set[str]:
    """Codes in replies that are made without raising: the third argument of `error_body`, and
    "code" in a body written by hand."""
    found = set()
    for node in _nodes():
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "error_body":
            code = node.args[2]
            if isinstance(code, ast.Constant):
                found.add(code.value)
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "code":
                    found.add(value.value if isinstance(value, ast.Constant) else "")
    return {str(code) for code in found - {""}}


def _classes() -> list[type[DynamoError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, DynamoError)
    ]


def test_every_code_of_a_reply_is_in_the_table_and_every_code_in_the_table_is_some_replys() -> None:
    raised = {code for _, code in _raised_codes()}
    stores = {cls.code for cls in STATUSES}
    assert {*raised, *stores, *_told_codes()} == set(ERRORS)


def test_the_table_gives_each_error_the_status_and_outcome_that_the_code_does() -> None:
    for status, code in _raised_codes():
        assert (ERRORS[code].status, ERRORS[code].outcome) == (status, "none"), code
    for cls in _classes():
        if cls in STATUSES:
            row = ERRORS[cls.code]
            assert (row.status, row.outcome) == (STATUSES[cls], cls.outcome), cls
    assert all(row.when for row in ERRORS.values())


def test_every_error_of_the_table_is_some_operations_or_everybodys() -> None:
    told = {code for _, _, operation in OPERATIONS for code in operation.errors}
    # What is no resource, or has no such method, is no operation.
    assert told | set(COMMON_ERRORS) | {"no_such_resource", "method_not_allowed"} == set(ERRORS)


def test_every_parameter_that_is_read_is_in_the_table() -> None:
    assert {*PARAMETER_NAMES, "keys", "buckets", "limit", "cursor", "partition"} == set(PARAMETERS)
    assert {name for _, _, o in OPERATIONS for name in o.query} == set(PARAMETERS)
    assert {name for route in ROUTES for name in route.names} == set(PATH_PARAMETERS)


def _allowed(name: str) -> list[str]:
    """Some values that the table's schema allows."""
    schema = PARAMETERS[name].schema
    if "anyOf" in schema:
        return [str(schema["anyOf"][0]["minimum"]), "3", *COUNT_WORDS]
    if "enum" in schema:
        return [str(value) for value in schema["enum"]]
    return {"integer": ["1", "60000"], "boolean": ["true", "false"], "string": ["abc"]}[
        schema["type"]
    ]


@pytest.mark.parametrize("name", PARAMETER_NAMES)
def test_what_the_table_allows_is_taken_and_what_it_does_not_is_refused(name: str) -> None:
    for value in _allowed(name):
        parameters.parse(f"{name}={value}")
    if PARAMETERS[name].schema != {"type": "string"}:
        below = PARAMETERS[name].schema.get("minimum", 1) - 1
        if "anyOf" in PARAMETERS[name].schema:
            below = PARAMETERS[name].schema["anyOf"][0]["minimum"] - 1
        for value in ("maybe", "", str(below)):
            with pytest.raises(errors.InvalidArgument):
                parameters.parse(f"{name}={value}")


@pytest.mark.parametrize("name", PARAMETER_NAMES)
def test_each_operation_names_the_parameters_that_it_heeds(name: str) -> None:
    # Of all allowed values one at least is not the default, and changes what is asked for.
    given = [parameters.parse(f"{name}={value}") for value in _allowed(name)]

    def heeded(*fields: str) -> bool:
        return any(getattr(one, field) != getattr(NONE, field) for one in given for field in fields)

    assert (name in OBJECT["GET"].query) == heeded("read", "vtag")
    assert (name in OBJECT["PUT"].query) == heeded("write")
    # A delete has no body to give back.
    assert (name in OBJECT["DELETE"].query) == (heeded("delete") and name != "returnbody")
    assert heeded(*Parameters.__struct_fields__)


def test_every_request_header_that_is_read_is_in_the_table() -> None:
    constants = {
        node.attr.replace("_", "-").lower()
        for node in _nodes()
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "hdrs"
    }
    names = {name.lower() for name in REQUEST_HEADERS}
    assert constants <= names, constants - names
    # The others are compared as bytes, in lower case, or looked up by name.
    literals = {text.lower() for text in _texts()}
    for name in names - constants:
        assert name.removesuffix("*") in literals, f"nothing reads {name}"
    known = {name.rstrip("-*") for name in (*names, *(n.lower() for n in REPLY_HEADERS))}
    looked_for = {
        text.rstrip("-*") for text in literals if re.fullmatch(r"x-[a-z]+-[a-z*-]+", text)
    }
    assert looked_for <= known, looked_for - known


def test_every_reply_header_that_is_written_is_in_the_table() -> None:
    written = {
        name
        for text in _texts()
        for name in re.findall(r"(?:^|\n|%b)([A-Z][A-Za-z-]*): ", text.replace("\r\n", "\n"))
    }
    written.add("X-Riak-Meta-*")  # its names are the client's
    # In the parts of a multipart body it is spelt as Riak spells it.
    assert written - {"Etag"} == set(REPLY_HEADERS)
    told = {
        name
        for _, _, operation in OPERATIONS
        for reply in operation.replies
        for name in reply.headers
    } | {name for error in ERRORS.values() for name in error.headers}
    assert told | set(COMMON_HEADERS) == set(REPLY_HEADERS)


def test_operations_name_only_what_the_tables_have() -> None:
    for route, method, operation in OPERATIONS:
        assert set(operation.query) <= set(PARAMETERS), route.path
        assert set(operation.headers) <= set(REQUEST_HEADERS), route.path
        assert set(operation.errors) <= set(ERRORS), route.path
        assert not set(operation.errors) & set(COMMON_ERRORS), route.path
        bodies = [operation.body, *(reply.body for reply in operation.replies)]
        schemas = {name for body in bodies if body is not None for name in body.media.values()}
        assert schemas - {""} <= set(SCHEMAS), (route.path, method)


def test_every_method_of_every_route_is_described() -> None:
    for route in ROUTES:
        assert set(route.operations) == set(route.methods) - {"HEAD"}, route.path
        assert ("HEAD" in route.methods) == ("GET" in route.methods), route.path
