"""All files together: repos/ in; data.txt, its ledger, its summary and its report page out.

inventory.py lists the files, shards.py has them prepared in batches, selection.py and copies.py drop copies,
found in memory by near_duplicates.py, on disk by partitioned_duplicates.py; held_out_split.py decides what is
held out, assembly.py joins it all. data_file.py is the format of data.txt; output_files.py says where outputs
lie, output_writers.py writes them. Read assembly.py first.
"""
