BEGIN TRANSACTION;
CREATE TABLE af_chunks (
	file BIGINT NOT NULL, 
	place INTEGER NOT NULL, 
	data BLOB NOT NULL, 
	PRIMARY KEY (file, place), 
	FOREIGN KEY(file) REFERENCES af_files (id)
);
INSERT INTO "af_chunks" VALUES(1,0,X'686F6F');
CREATE TABLE af_events (
	id INTEGER NOT NULL, 
	run BIGINT NOT NULL, 
	line BIGINT NOT NULL, 
	seq INTEGER NOT NULL, 
	epoch INTEGER DEFAULT 0 NOT NULL, 
	timestamp DOUBLE NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT af_events_key UNIQUE (run, seq, line)
);
INSERT INTO "af_events" VALUES(4294967297,1,1,1,0,1700000000.0,'{"id":"r1-1","invocationId":"r1","timestamp":1700000000.0,"author":"user","parts":[{"kind":"text","text":"About owls?"}]}');
INSERT INTO "af_events" VALUES(4294967298,1,1,2,0,1700000001.0,'{"id":"r1-2","invocationId":"r1","timestamp":1700000001.0,"author":"owl","path":"owl","lifecycle":{"name":"agent_start","agentName":"owl","agentType":"LlmAgent"}}');
INSERT INTO "af_events" VALUES(4294967299,1,2,1,0,1700000002.0,'{"id":"r1-3","invocationId":"r1","timestamp":1700000002.0,"author":"owl","branch":"p.owl","path":"owl","parts":[{"kind":"text","text":"Owls hunt at night."}],"actions":{"stateDelta":{"seen":[1,null,"🦉"]}}}');
INSERT INTO "af_events" VALUES(4294967300,1,1,3,0,1700000003.0,'{"id":"r1-4","invocationId":"r1","timestamp":1700000003.0,"author":"owl","path":"owl","lifecycle":{"name":"agent_complete","agentName":"owl","outcome":"ok","executionTimeMs":3000.0}}');
CREATE TABLE af_file_versions (
	app TEXT NOT NULL, 
	user TEXT NOT NULL, 
	session TEXT NOT NULL, 
	filename TEXT NOT NULL, 
	last INTEGER NOT NULL, 
	PRIMARY KEY (app, user, session, filename)
)
 WITHOUT ROWID

;
INSERT INTO "af_file_versions" VALUES('shop','ada','s1','owl.txt',1);
CREATE TABLE af_files (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	app TEXT NOT NULL, 
	user TEXT NOT NULL, 
	session TEXT NOT NULL, 
	filename TEXT NOT NULL, 
	version INTEGER, 
	mime_type TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	sha256 TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	CONSTRAINT af_files_key UNIQUE (app, user, session, filename, version)
);
INSERT INTO "af_files" VALUES(1,'shop','ada','s1','owl.txt',1,'text/plain',3,'2e75a349e53c2d190fc67099731aca6db6648e3187005bfe8ae887cdab8186e1',1700000000.0);
CREATE TABLE af_leases (
	line BIGINT NOT NULL, 
	epoch INTEGER NOT NULL, 
	owner TEXT, 
	heartbeat_at DOUBLE, 
	PRIMARY KEY (line), 
	FOREIGN KEY(line) REFERENCES af_lines (id)
);
CREATE TABLE af_lines (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	run BIGINT NOT NULL, 
	branch TEXT NOT NULL, 
	CONSTRAINT af_lines_key UNIQUE (run, branch), 
	FOREIGN KEY(run) REFERENCES af_runs (id)
);
INSERT INTO "af_lines" VALUES(1,1,'');
INSERT INTO "af_lines" VALUES(2,1,'p.owl');
CREATE TABLE af_memories (
	id INTEGER NOT NULL, 
	app TEXT NOT NULL, 
	user TEXT NOT NULL, 
	session TEXT NOT NULL, 
	author TEXT NOT NULL, 
	timestamp DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "af_memories" VALUES(1,'shop','ada','s1','user',1700000000.0);
INSERT INTO "af_memories" VALUES(2,'shop','ada','s1','owl',1700000002.0);
CREATE TABLE af_runs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	session BIGINT NOT NULL, 
	run TEXT NOT NULL, 
	status TEXT, 
	epoch INTEGER DEFAULT 0 NOT NULL, 
	owner TEXT, 
	heartbeat_at DOUBLE, 
	deadline_at DOUBLE, 
	tree_fingerprint TEXT, 
	tree TEXT, 
	input TEXT, 
	CONSTRAINT af_runs_key UNIQUE (session, run), 
	FOREIGN KEY(session) REFERENCES af_sessions (id)
);
INSERT INTO "af_runs" VALUES(1,1,'r1',NULL,0,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE af_sessions (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	app TEXT NOT NULL, 
	user TEXT NOT NULL, 
	name TEXT NOT NULL, 
	title TEXT DEFAULT '' NOT NULL, 
	created_at DOUBLE NOT NULL, 
	changed BIGINT NOT NULL, 
	initial TEXT NOT NULL, 
	CONSTRAINT af_sessions_key UNIQUE (app, user, name)
);
INSERT INTO "af_sessions" VALUES(1,'shop','ada','s1','Owls',1700000000.0,2,'{"topic":"owls"}');
CREATE TABLE af_state (
	app TEXT NOT NULL, 
	user TEXT NOT NULL, 
	session BIGINT NOT NULL, 
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (app, user, session, name)
)
 WITHOUT ROWID

;
INSERT INTO "af_state" VALUES('shop','',0,'theme','"dark"');
INSERT INTO "af_state" VALUES('shop','ada',0,'name','"Ada"');
INSERT INTO "af_state" VALUES('shop','ada',1,'seen','[1,null,"🦉"]');
INSERT INTO "af_state" VALUES('shop','ada',1,'topic','"owls"');
CREATE TABLE af_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT af_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "af_version" VALUES('0001');
CREATE INDEX af_sessions_changed ON af_sessions (changed);
CREATE INDEX af_sessions_app ON af_sessions (app, changed);
CREATE INDEX af_sessions_user ON af_sessions (app, user, changed);
CREATE INDEX af_memories_session ON af_memories (app, user, session);
CREATE VIRTUAL TABLE af_memory_words USING fts5(scope, text, tokenize = "unicode61 remove_diacritics 2");
INSERT INTO af_memory_words (rowid, scope, text) VALUES (1, 'sadd6045959f1da63c49aebec42dc3681', 'About owls?');
INSERT INTO af_memory_words (rowid, scope, text) VALUES (2, 'sadd6045959f1da63c49aebec42dc3681', 'Owls hunt at night.');
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES ('af_sessions', 1);
INSERT INTO sqlite_sequence VALUES ('af_runs', 1);
INSERT INTO sqlite_sequence VALUES ('af_lines', 2);
INSERT INTO sqlite_sequence VALUES ('af_files', 1);
COMMIT;
