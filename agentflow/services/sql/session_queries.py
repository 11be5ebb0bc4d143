"""What is asked of the tables that sessions are in."""

from sqlalchemy import delete, func, insert, select, update

from agentflow.services.sql.query import Driver, Query, param, whole
from agentflow.services.sql.schema import events, lines, sessions

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
        self.find = Query(driver, select(*_row).where(_by_app, _by_user, sessions.c.name == param("name")))
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
        names = ("id", "line", "seq", "timestamp", "body")
        self.add_event = Query(driver, insert(events).values({name: param(name) for name in names}))
        self.drop_events = Query(driver, delete(events).where(_above, events.c.id <= _last))

    def _lines(self) -> None:
        driver, here = self._driver, lines.c.session == _session
        run, branch = param("run"), param("branch")
        seq = select(func.max(events.c.seq)).where(events.c.line == lines.c.id).scalar_subquery()
        find = select(lines.c.id, seq).where(here, lines.c.run == run, lines.c.branch == branch)
        self.find_line = Query(driver, find)
        self.add_line = Query(
            driver, insert(lines).values(session=_session, run=run, branch=branch).returning(lines.c.id)
        )
        empty = ~select(events.c.id).where(events.c.line == lines.c.id).exists()
        self.drop_empty_lines = Query(driver, delete(lines).where(here, empty))

    def _copies(self) -> None:
        """Of a session `session` to a session `to`, whose events' ids are `offset` more."""
        driver, here, twin = self._driver, lines.c.session == _session, lines.alias("twin")
        used = select(events.c.id).where(events.c.line == lines.c.id, events.c.id <= _last).exists()
        copied = select(_to, lines.c.run, lines.c.branch).where(here, used)
        self.copy_lines = Query(driver, insert(lines).from_select(["session", "run", "branch"], copied))
        same = (twin.c.session == _to) & (twin.c.run == lines.c.run) & (twin.c.branch == lines.c.branch)
        kept = (events.c.seq, events.c.epoch, events.c.timestamp, events.c.body)
        moved = select(events.c.id + whole("offset"), twin.c.id, *kept)
        moved = moved.join(lines, lines.c.id == events.c.line).join(twin, same).where(_above, events.c.id <= _last)
        self.copy_events = Query(
            driver, insert(events).from_select(["id", "line", "seq", "epoch", "timestamp", "body"], moved)
        )
