// Carries out a query that converts a file: node duckdb.cjs FOLDER-OF-MODULES QUERY
const {createRequire} = require('node:module');
const {readFileSync} = require('node:fs');
const [modules, query] = process.argv.slice(2);
const {DuckDBInstance} = createRequire(modules + '/x.js')('@duckdb/node-api');

async function main() {
	const instance = await DuckDBInstance.create(':memory:', {threads: '2'});
	const connection = await instance.connect();
	const began = process.hrtime.bigint();
	await connection.run(query);
	const seconds = Number(process.hrtime.bigint() - began) / 1e9;
	const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
	console.log(JSON.stringify({Seconds: seconds, Peak: peak}));
}

main().catch(error => { console.error(error); process.exit(1); });
