import sys

# jsonschema, by which notebooks are read, would compile a grammar here: a second in each process, for IRIs alone.
sys.modules.setdefault("rfc3987_syntax", None)
