"""The HTTP contract: shapes, scopes and the one table of operations."""

from tirami.api.openapi import openapi
from tirami.api.operations import BY_NAME, OPERATIONS, Dialect, Operation
from tirami.api.scopes import Scope

__all__ = ["BY_NAME", "OPERATIONS", "Dialect", "Operation", "Scope", "openapi"]
