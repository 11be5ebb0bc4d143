"""What happened in a stored run: turns, waits, retries and outcomes, read off its events; and pictures of it.

```python
from agentflow.timeline import gantt, runs, to_html

for timeline in runs(session.events):
    print(gantt(timeline))
```
"""

from agentflow.timeline.chrome import to_chrome as to_chrome
from agentflow.timeline.model import (
    Attempt as Attempt,
    Call as Call,
    Mark as Mark,
    Step as Step,
    Timeline as Timeline,
    Turn as Turn,
    runs as runs,
)
from agentflow.timeline.page import to_html as to_html
from agentflow.timeline.records import to_jsonl as to_jsonl
from agentflow.timeline.svg import to_svg as to_svg
from agentflow.timeline.text import gantt as gantt
