"""What is asked of the tables that sessions are in."""

from sqlalchemy import ColumnElement, Exists, delete, func, insert, select, update

from agentflow.services.sql.query import Driver, Query, param, whole
from agentflow.services.sql.schema import SERIAL_BITS, events, lines, runs, sessions

_first, _last = whole("first"), whole("last")
_session, _to = whole("session"), whole("to")
_above = events.c.id > _first
_by_app = sessions.c.app == param("app")
_by_user = sessions.c.user == param("user")
_row = (
    sessions.c.id, sessions.c.app, sessions.c.user, sessions.c.name, sessions.c.title, sessions.c.created_at,
    sessions.c.changed, sessions.c.initial,
)  # fmt: skip


class SessionQueries:
    """One `Query` each. `first` and `last` are ids of events, the first one not included."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        named = (_by_app, _by_user, sessions.c.name == param("name"))
        self.find = Query(driver, select(*_row).where(*named))
        size = 1 << SERIAL_BITS
        its = (events.c.id > sessions.c.id * size) & (events.c.id < (sessions.c.id + 1) * size)
        first = select(events.c.id, events.c.seq, events.c.body).join(sessions, its).where(*named)
        self.first_event = Query(driver, first.order_by(events.c.id).limit(1))
        self.max_changed = Query(driver, select(func.max(sessions.c.changed)))
        self.next_app = Query(driver, select(func.min(sessions.c.app)).where(sessions.c.app > param("app")))
        self._pages()
        self._change_sessions()
        self._events()
        self._lines()
        self._copies()

    def _pages(self) -> None:
        page = select(*_row).where(sessions.c.changed < param("before"))
        page = page.order_by(sessions.c.changed.desc()).limit(param("limit"))
        visible = sessions.c.app != ""
        self.list_all = Query(self._driver, page.where(visible))
        self.list_app = Query(self._driver, page.where(_by_app))
        self.list_user = Query(self._driver, page.where(_by_app, _by_user))
        self.list_anywhere = Query(self._driver, page.where(visible, _by_user))

    def _change_sessions(self) -> None:
        driver, this = self._driver, sessions.c.id == _session
        names = ("app", "user", "name", "title", "created_at", "changed", "initial")
        add = insert(sessions).values({name: param(name) for name in names})
        self.add = Query(driver, add.returning(sessions.c.id))
        publish = {"app": "to_app", "user": "to_user", "name": "to_name", "created_at": "at"}
        values = {name: param(value) for name, value in publish.items()}
        self.publish = Query(driver, update(sessions).where(this).values(changed=_to, **values))
        self.rename = Query(driver, update(sessions).where(this).values(title=param("to_title")))
        self.touch = Query(driver, update(sessions).where(this).values(changed=_to))
        self.drop_session = Query(driver, delete(sessions).where(this))

    def _events(self) -> None:
        driver = self._driver
        last = select(events.c.id, events.c.timestamp).where(_above, events.c.id < _last)
        self.last_event = Query(driver, last.order_by(events.c.id.desc()).limit(1))
        some = select(events.c.id, events.c.seq, events.c.body).where(_above, events.c.id <= _last)
        self.read_events = Query(driver, some.order_by(events.c.id))
        self.writing_events = Query(driver, some.where(events.c.body.contains('"state')).order_by(events.c.id))
        names = ("id", "run", "line", "seq", "timestamp", "body")
        self.add_event = Query(driver, insert(events).values({name: param(name) for name in names}))
        self.drop_events = Query(driver, delete(events).where(_above, events.c.id <= _last))

    def _lines(self) -> None:
        driver = self._driver
        run, branch, line = whole("run"), param("branch"), whole("line")
        self.find_run = Query(driver, select(runs.c.id).where(runs.c.session == _session, runs.c.run == param("name")))
        self.add_run = Query(driver, insert(runs).values(session=_session, run=param("name")).returning(runs.c.id))
        self.find_line = Query(driver, select(lines.c.id).where(lines.c.run == run, lines.c.branch == branch))
        self.add_line = Query(driver, insert(lines).values(run=run, branch=branch).returning(lines.c.id))
        self.max_seq = Query(driver, select(func.max(events.c.seq)).where(events.c.run == run))
        this = (events.c.run == run, events.c.seq == whole("seq"), events.c.line == line)
        self.has_seq = Query(driver, select(events.c.id).where(*this))
        here = runs.c.session == _session
        begun = _begins(events.c.run == lines.c.run, events.c.line == lines.c.id)
        of_session = lines.c.run.in_(select(runs.c.id).where(here))
        self.drop_empty_lines = Query(driver, delete(lines).where(of_session, ~begun))
        used = select(lines.c.id).where(lines.c.run == runs.c.id).exists()
        self.drop_empty_runs = Query(driver, delete(runs).where(here, ~used))

    def _copies(self) -> None:
        """Of a session `session` to a session `to`, whose events' ids are `offset` more."""
        driver, here = self._driver, runs.c.session == _session
        new_runs, new_lines = runs.alias("new_runs"), lines.alias("new_lines")
        same_run = (new_runs.c.session == _to) & (new_runs.c.run == runs.c.run)
        same_line = (new_lines.c.run == new_runs.c.id) & (new_lines.c.branch == lines.c.branch)
        before = events.c.id <= _last
        copied = select(_to, runs.c.run).where(here, _begins(events.c.run == runs.c.id, before))
        self.copy_runs = Query(driver, insert(runs).from_select(["session", "run"], copied))
        begun = _begins(events.c.run == lines.c.run, events.c.line == lines.c.id, before)
        twins = select(new_runs.c.id, lines.c.branch).join(runs, runs.c.id == lines.c.run).join(new_runs, same_run)
        self.copy_lines = Query(driver, insert(lines).from_select(["run", "branch"], twins.where(here, begun)))
        kept = (events.c.seq, events.c.epoch, events.c.timestamp, events.c.body)
        moved = select(events.c.id + whole("offset"), new_runs.c.id, new_lines.c.id, *kept).where(_above, before)
        moved = moved.join(lines, lines.c.id == events.c.line).join(runs, runs.c.id == events.c.run)
        moved = moved.join(new_runs, same_run).join(new_lines, same_line)
        names = ["id", "run", "line", "seq", "epoch", "timestamp", "body"]
        self.copy_events = Query(driver, insert(events).from_select(names, moved))


def _begins(*which: ColumnElement[bool]) -> Exists:
    """Whether there is an event that is the first of such a line."""
    return select(events.c.id).where(events.c.seq == 1, *which).exists()
