"""Training sets from raw data: click logs, judged pairs and catalogs in, clean examples out, every row accounted for.

``run.curate`` reads the inputs of a configuration (``inputs.py``, ``logs.py``), sends their rows (``rows.py``) through
its steps (``steps.py`` has the table of them), counts what each took (``report.py``), and publishes what is left.
"""
